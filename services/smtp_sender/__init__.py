"""smtp-sender: one delivery attempt to the next hop over SMTP.

Consumes   outbox               outgoing message
Publishes  success failure      result, final
           retries              result and message, to be tried again
           seal                 mail that asks to be sealed, unattempted
           wait.*               mail that is not due, or held because something of ours is down
           record               copy of every result, for the recorder
           dead                 messages that cannot be handled
Touches    remote MTAs, DNS, message store (read)
Decides    nothing about retries: shared.delivery.verdict does
If killed  after the remote 250 and before our ack, the recipient may get the mail twice
Standards  RFC 5321, 2920, 3207, 4954, 6152, 6531, 7505
"""
