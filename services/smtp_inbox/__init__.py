"""smtp-inbox: receives mail over SMTP and takes responsibility for it.

Consumes   -                    nothing from RabbitMQ: mail comes over SMTP (inbound-smtp-listen)
Publishes  inbox                mail to be routed, one message per recipient
           record               the same without its content, event: accepted
Touches    message store (write)
Decides    who may relay (smtp-range), what is refused at the door; when 250 is said: shared.acceptance does
If killed  after the message was published and before the client read 250, the client sends it again: twice.
           Before that: the client got no 250 and sends it again; a payload in the store may be left without a message
Standards  RFC 5321, 1870 SIZE, 2034 ENHANCEDSTATUSCODES, 2920 PIPELINING, 3207 STARTTLS, 6152 8BITMIME, 6531 SMTPUTF8
"""
