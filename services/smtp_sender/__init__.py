"""smtp-sender: one delivery attempt to the next hop over SMTP.

Consumes   outbox               outgoing message
Publishes  success failure      result, final
           retries              result and message, to be tried again
           seal                 mail that asks to be sealed, unattempted
           dsn                  what became of a mail, for its sender
           wait.*               mail that is not due or paused, or held because something of ours is down
           record               copy of every result, for the recorder
           dead                 messages that cannot be handled
Touches    remote MTAs, DNS, HTTPS hosts of MTA-STS policies, message store (read; written with storage-policy out, all),
           the journal of this host, Postgres (pools, suppressions, pauses and forced errors, read; a snapshot of them on disk)
Decides    nothing about retries: shared.delivery.verdict does
If killed  between the remote 250 and its line in the journal, the recipient may get the mail twice; after it not, on this host
Standards  RFC 5321, 1870, 2920, 3207, 3461-3464, 4954, 4616, 2195, 6152, 6376, 6531-6533, 6698, 7505, 7672, 8461, 8463, 8617
"""
