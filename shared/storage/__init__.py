"""The message store and the database. The only importers of their drivers."""
