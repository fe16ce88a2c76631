"""router: which way a mail goes, by rules.

Consumes   inbox                mail that came in
Publishes  outbox seal          mail, for the sender of the first strategy
           failure              result, when no rule takes the mail and router-default is fail
           wait.*               mail held because the rules were never seen
           record               copy of every result, for the recorder
           dead                 messages that cannot be handled
Touches    Postgres (rules, read), a snapshot of the rules on disk
Decides    the route and what is rewritten: shared.delivery.rules and shared.delivery.rewrites do
If killed  before our ack, the mail is routed again: the sender's result counts once per (id, attempt)
Standards  none: the rules are those of the delivery configurations
"""
