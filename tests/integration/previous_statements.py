"""The statements with which the release before schema 0004 wrote records and moved them to the archive, word for word.

Frozen: they are what a process of that release, still running beside a migrated database, sends. When a schema is made that this
release need not work with any more (a contraction), they are replaced by those of the release before that one.
"""

STAGE = """
    CREATE TEMPORARY TABLE IF NOT EXISTS stage_messages (
        transaction text, message_id text, message_type text, sender text, recipients jsonb, recipients_total integer,
        subject text, channel text, status text, return_path text, datafile text, strategy text, ids jsonb,
        keepmime boolean, next_attempt_at bigint
    ) ON COMMIT DELETE ROWS;
    CREATE TEMPORARY TABLE IF NOT EXISTS stage_attempts (
        id text, recipient text, attempt integer, state text, result text, code integer, status text, description text,
        class text, mta text, "from" text, "to" text, time bigint, destination text, next_attempt_at bigint, report jsonb
    ) ON COMMIT DELETE ROWS;
    CREATE TEMPORARY TABLE IF NOT EXISTS stage_status (
        id text, transaction text, recipients_total integer, message_id text, subject text, sender text, recipient text,
        delivery_strategy text, status text, state text, code integer, class text, destination text, results jsonb
    ) ON COMMIT DELETE ROWS
"""
PUT_MESSAGES = """
    INSERT INTO messages AS m (
        transaction, message_id, message_type, sender, recipients, recipients_total, subject, channel, status,
        return_path, datafile, strategy, ids, keepmime, next_attempt_at, created_at, updated_at
    )
    SELECT transaction, message_id, message_type, sender, recipients, recipients_total, subject, channel, status,
           return_path, datafile, strategy, ARRAY(SELECT jsonb_array_elements_text(ids)), keepmime, next_attempt_at,
           %(now)s, %(now)s
    FROM stage_messages ORDER BY transaction
    ON CONFLICT (transaction) DO UPDATE SET
        recipients = m.recipients || excluded.recipients,
        recipients_total = greatest(m.recipients_total, excluded.recipients_total),
        ids = ARRAY(SELECT DISTINCT unnest(m.ids || excluded.ids)),
        status = CASE WHEN m.status IN ('accepted', 'routed') THEN excluded.status ELSE m.status END,
        datafile = coalesce(m.datafile, excluded.datafile),
        keepmime = m.keepmime OR excluded.keepmime,
        updated_at = excluded.updated_at
    WHERE NOT m.recipients @> excluded.recipients
        OR (m.status IN ('accepted', 'routed') AND excluded.status <> m.status AND excluded.status <> 'accepted')
        OR (m.datafile IS NULL AND excluded.datafile IS NOT NULL)
        OR (excluded.keepmime AND NOT m.keepmime)
"""
PUT_ATTEMPTS = """
    INSERT INTO delivery_attempts (
        id, recipient, attempt, state, result, code, status, description, class, mta, "from", "to", time, destination,
        next_attempt_at, report, created_at, updated_at
    )
    SELECT s.*, %(now)s, %(now)s FROM stage_attempts s ORDER BY id, attempt
    ON CONFLICT (id, attempt) DO NOTHING
"""
CLEAR_DUE = """
    UPDATE delivery_attempts d SET next_attempt_at = NULL, updated_at = %(now)s
    WHERE d.next_attempt_at IS NOT NULL AND d.id = ANY (%(ids)s)
      AND EXISTS (SELECT FROM delivery_attempts n WHERE n.id = d.id AND n.attempt > d.attempt)
"""
PUT_STATUS = """
    INSERT INTO message_status AS s (
        id, transaction, recipients_total, message_id, subject, sender, recipient, delivery_strategy, status, state,
        code, class, destination, results, created_at, updated_at
    )
    SELECT t.*, %(now)s, %(now)s FROM stage_status t ORDER BY id
    ON CONFLICT (id) DO UPDATE SET (delivery_strategy, status, state, code, class, results, updated_at) = (
        SELECT b.delivery_strategy, b.status, b.state, b.code, b.class,
            (
                SELECT coalesce(jsonb_agg(r ORDER BY (r ->> 'attempt')::integer), '[]') FROM (
                    SELECT r FROM jsonb_array_elements(b.results) r
                    UNION ALL
                    SELECT r FROM jsonb_array_elements(b.others) r WHERE NOT EXISTS (
                        SELECT FROM jsonb_array_elements(b.results) k WHERE k -> 'attempt' = r -> 'attempt'
                    )
                ) u
            ),
            excluded.updated_at
        FROM (
            SELECT excluded.delivery_strategy, excluded.status, excluded.state, excluded.code, excluded.class,
                   excluded.results, s.results AS others
            WHERE s.status = 'failed' AND excluded.status = 'delivered'
            UNION ALL
            SELECT s.delivery_strategy, s.status, s.state, s.code, s.class, s.results, excluded.results
            WHERE NOT (s.status = 'failed' AND excluded.status = 'delivered')
        ) b
    )
    WHERE (s.status = 'failed' AND excluded.status = 'delivered') OR NOT s.results @> excluded.results
"""
MOVE_ATTEMPTS = """
    WITH moved AS (
        DELETE FROM delivery_attempts WHERE id = ANY (%(ids)s) RETURNING id, attempt, report
    ), missing AS (
        SELECT m.id, jsonb_agg(m.report) AS reports FROM moved m JOIN message_status s ON s.id = m.id
        WHERE NOT EXISTS (
            SELECT FROM jsonb_array_elements(s.results) r WHERE (r ->> 'attempt')::integer = m.attempt
        )
        GROUP BY m.id
    )
    UPDATE message_status s SET updated_at = %(now)s, results = (
        SELECT jsonb_agg(r ORDER BY (r ->> 'attempt')::integer)
        FROM jsonb_array_elements(s.results || missing.reports) r
    )
    FROM missing WHERE s.id = missing.id
"""
MOVE_TO_ARCHIVE = """
    WITH picked AS MATERIALIZED (
        SELECT id FROM message_status WHERE updated_at < %(before)s ORDER BY updated_at LIMIT %(most)s
        FOR UPDATE SKIP LOCKED
    ), moved AS (
        DELETE FROM message_status s USING picked WHERE s.id = picked.id
        RETURNING s.id, transaction, recipients_total, message_id, subject, sender, recipient, delivery_strategy, status, state,
                  code, class, destination, results, created_at, updated_at
    )
    INSERT INTO message_status_archive (
        id, transaction, recipients_total, message_id, subject, sender, recipient, delivery_strategy, status, state,
        code, class, destination, results, created_at, updated_at, archived_at
    )
    SELECT moved.*, %(now)s FROM moved
"""
