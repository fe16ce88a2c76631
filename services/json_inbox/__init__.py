"""json-inbox: mail, actions, rules and status over HTTP; the queue of actions beside it.

Consumes   actions              an action: send a mail, redrive what is parked
Publishes  inbox                incoming message, one per recipient
           record               the same without the content, for the result-recorder
           dead                 an action that cannot be done, with the reason
Touches    message store (write), Postgres (rules, lists, status, tokens, answers to requests with an Idempotency-Key;
           mail is accepted while it is down); on disk a snapshot of the tokens, and what was accepted of requests that failed
Decides    202: shared.acceptance says when; what is wrong with a message: shared.wire.instructions does;
           which call needs which scope: services.json_inbox.scopes
If killed  before the 202 nothing is promised: the client sends again, and the recipient may get the mail twice (with an
           Idempotency-Key: the same mail, same id, which the sender's journal knows)
Standards  RFC 9110, 6750 (bearer tokens), 9457 (problem documents), 5321 3.7.2 (the Received header of a gateway), OpenAPI 3.1
"""
