"""The database's schema, revision by revision. Forward only; expand first, contract in a later release."""
