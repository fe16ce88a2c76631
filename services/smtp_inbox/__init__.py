"""smtp-inbox: receives mail over SMTP and takes responsibility for it.

Consumes   -                    nothing from RabbitMQ: mail comes over SMTP (inbound-smtp-listen)
Publishes  inbox                mail to be routed, one message per recipient
           local                mail for local recipients, with its content; when rabbitmq-local is set
           reports              reports to local recipients (DSN, MDN, DMARC, TLS, ARF); when rabbitmq-reports is set
           refused              mail that was refused, unconfirmed; when rabbitmq-refused is set
           record               what was published, without its content, event: accepted, or success for local and reports
Touches    message store (write); with db-uri Postgres (locals, read) and a snapshot of them on disk
Decides    who may relay (AUTH, smtp-range, local recipients), what is refused at the door, what is a report
           (shared.mail.reports); when 250 is said: shared.acceptance does
If killed  after the message was published and before the client read 250, the client sends it again: twice.
           Before that: the client got no 250 and sends it again; a payload in the store may be left without a message
Standards  RFC 5321, 1870 SIZE, 2034 ENHANCEDSTATUSCODES, 2920 PIPELINING, 3030 CHUNKING, 3207 STARTTLS,
           3461 DSN, 4954 AUTH, 4616 PLAIN, 6152 8BITMIME, 6409 submission, 6531 SMTPUTF8
"""
