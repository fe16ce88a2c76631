"""The bench: our pipeline, Postfix and Celery, the same mail, the same machine, the same sink, in one run.

    make bench                                      three rounds of everything
    python -m tests.bench --quick --only b          one short round of one way

(a) smtp-source → smtp-inbox → router → smtp-sender → sink, every result recorded in Postgres and taken from ``success``
(b) JSON published to the exchange ``outbox``, confirmed → smtp-sender → sink, the same records and results
(c) smtp-source → Postfix (Debian's, a private instance) → sink
(d) as (b), and every mail gets a DKIM signature (RSA-2048)
(e) JSON to 1,000 domains, queued before smtp-sender starts → smtp-sender, which looks up their MX → a host for each domain;
    then the same with a tarpit for one of them, which greets and is silent ever after: what do the others lose?
(f) mail taken by smtp-inbox and json-inbox, with nothing behind them; Postfix puts it on hold
(g) a backlog of records, which one result-recorder writes down; then old verdicts, which archiver moves
(h) the mails of (b) as tasks, confirmed → Celery's workers with smtplib → sink, a result of each to a queue; nothing recorded
(i) mail by SMTP at half of the rate of (a): how long from the 250 to the sink?
(j) a backlog taken out by one smtp-sender and by two, in turn: mail that costs the sender much, and a sink that is slow
(k) a million mails in ``outbox`` against 10,000: rate and memory (only with ``--only k``: it takes a quarter of an hour)

All as durable as they come: persistent messages in quorum queues, confirms, fsync on, nothing tuned against safety. A
round counts only if the sink's ledger shows every mail exactly once (those to the tarpit may wait), Postgres holds a final
row and ``success`` has given a result for every mail of ours, (h)'s queue one for every task, and every mail of (d) is signed.
"""
