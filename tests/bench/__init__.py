"""The bench: our pipeline and Postfix, the same mail, the same machine, the same sink, in one run.

    make bench                                      three rounds of everything
    python -m tests.bench --quick --only b          one short round of one way

(a) smtp-source → smtp-inbox → router → smtp-sender → sink, every result recorded in Postgres and taken from ``success``
(b) JSON published to the exchange ``outbox``, confirmed → smtp-sender → sink, the same records and results
(c) smtp-source → Postfix (Debian's, a private instance) → sink

All as durable as they come: persistent messages in quorum queues, confirms, fsync on, nothing tuned against safety. A
round counts only if the sink's ledger shows every mail exactly once and, for (a) and (b), Postgres holds a final row
and ``success`` has given a result for every mail.
"""
