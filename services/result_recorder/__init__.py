"""result-recorder: writes what became of every mail into Postgres, in batches.

Consumes   records              what was accepted, every attempt, every verdict
Publishes  dead                 records that cannot be recorded, with the reason
           wait.30s             records in hand while Postgres is down
           webhook              a copy of what is recorded, with rabbitmq-webhook
Touches    Postgres (write), message store (delete)
Decides    when a payload goes: all recipients of its submission are final, and it has no keepmime
If killed  between commit and ack the batch comes again and changes nothing; its copies are published again
Standards  none
"""
