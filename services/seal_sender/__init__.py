"""seal-sender: one delivery attempt to the seal service over HTTP, for mail that must not travel in clear text.

Consumes   seal                 outgoing message
Publishes  success failure      result, final
           seal.retries         result and message, to be tried again
           outbox               mail that asks for smtp, unattempted, or that the router's chain hands on
           dsn                  what became of a mail, for its sender
           wait.*               mail that is not due, or held because something of ours is down
           record               copy of every result, for the recorder
           dead                 messages that cannot be handled
Touches    seal service, message store (read; written with storage-policy out, all)
Decides    nothing about retries: shared.delivery.verdict does
If killed  after the service took the mail and before our ack: offered again under the same id, and the service makes no second one
Standards  RFC 9110, RFC 6750 (bearer token); POST {outbound-seal-addr}/v1/seal as services/seal_sender/client.py says
"""
