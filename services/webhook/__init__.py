"""webhook: posts what becomes of mail to HTTP endpoints, in signed batches. Optional: topology-webhook.json has its queues.

Consumes   webhook              copies of the records from result-recorder: accepted, every attempt, every verdict
           webhook.batches      events for one endpoint, made by this process
Publishes  webhook.batches      the same
           webhook              what was held
           webhook.wait.*       what is held, and batches that wait for their next attempt
           dead                 messages that cannot be read
Touches    Postgres (endpoints: read; their state: write), a snapshot of them on disk, DNS, the endpoints
Decides    which answers count as taken, when a batch is posted again, when an endpoint is disabled
If killed  between an answer and our ack the batch is posted again, byte by byte the same, with the same webhook-id
Standards  RFC 9110, Standard Webhooks 1.0 (headers, signature)
"""
