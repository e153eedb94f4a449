-- The audit trail (SPEC A1–A8). Everything a writer appends is one link of its chain and stands in audit_entries, whose
-- two halves are audit_intents (durable before a call is forwarded) and audit_log (the one row of a request).
-- Nothing here is ever updated. docs/audit.md specifies the canonical form that row_hash covers.

CREATE TABLE audit_entries (
    format           smallint    NOT NULL,
    kind             text        NOT NULL,
    writer_id        uuid        NOT NULL,
    seq              bigint      NOT NULL CHECK (seq > 0),
    started_at       timestamptz NOT NULL,
    execution_id     uuid        NOT NULL,
    server           text        NOT NULL,
    http_method      text        NOT NULL,
    method           text,
    tool             text,
    auth_method      text        NOT NULL,
    issuer           text,
    subject          text,
    client           text,
    agent            text,
    asserted_by      text,
    audience         text,
    scopes_required  text[]      NOT NULL,
    scopes_held      text[]      NOT NULL,
    scopes_matched   text[]      NOT NULL,
    session          text,
    protocol_version text,
    trace_id         text,
    remote           text,
    instance         text        NOT NULL,
    input            text,
    input_bytes      bigint,
    input_sha256     bytea,
    status           text,
    decision         text,
    reason           text,
    http_status      smallint,
    completed_at     timestamptz,
    duration_us      bigint,
    upstream_us      bigint,
    output           text,
    output_bytes     bigint,
    output_sha256    bytea,
    contract         text,
    artifact         text,
    error            text,
    events           bigint,
    hooks            text,
    repeats          bigint,
    last_seen        timestamptz,
    prev_hash        bytea       NOT NULL CHECK (octet_length(prev_hash) = 32),
    row_hash         bytea       NOT NULL CHECK (octet_length(row_hash) = 32)
) PARTITION BY LIST (kind);

COMMENT ON COLUMN audit_entries.input IS 'Redacted, capped snapshot as JSON text; input_bytes and input_sha256 are of the whole original.';
COMMENT ON COLUMN audit_entries.upstream_us IS 'Not null when the request was handed to the server: how long the server had it.';
COMMENT ON COLUMN audit_entries.scopes_matched IS 'The held scopes that satisfied the need: what let the request through.';

CREATE TABLE audit_intents PARTITION OF audit_entries (
    PRIMARY KEY (started_at, execution_id),
    CONSTRAINT intent_has_no_outcome CHECK (status IS NULL)
) FOR VALUES IN ('intent') PARTITION BY RANGE (started_at);

-- The primary key makes a second row for one execution impossible: intent and row carry the same started_at.
CREATE TABLE audit_log PARTITION OF audit_entries (
    PRIMARY KEY (started_at, execution_id),
    CONSTRAINT row_has_outcome CHECK ((
        status IN ('success', 'tool_error', 'failed', 'denied', 'timeout', 'cancelled', 'interrupted')
        AND decision IS NOT NULL AND reason IS NOT NULL AND completed_at IS NOT NULL
        AND duration_us >= 0 AND http_status BETWEEN 100 AND 599 AND repeats >= 1
    ) IS TRUE)
) FOR VALUES IN ('row') PARTITION BY RANGE (started_at);

CREATE INDEX audit_entries_chain ON audit_entries (writer_id, seq);
CREATE INDEX audit_log_server ON audit_log (server, started_at);
CREATE INDEX audit_log_subject ON audit_log (subject, started_at);

-- The safety net: a row finds a place even when no partition was created in time.
CREATE TABLE audit_intents_default PARTITION OF audit_intents DEFAULT;
CREATE TABLE audit_log_default PARTITION OF audit_log DEFAULT;

-- The life of a writer, one row an event. `detail` is a JSON object.
CREATE TABLE audit_writers (
    event_id  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    writer_id uuid        NOT NULL,
    event     text        NOT NULL CHECK (event IN ('opened', 'recovered', 'closed')),
    at        timestamptz NOT NULL,
    instance  text        NOT NULL,
    detail    jsonb       NOT NULL DEFAULT '{}'
);
CREATE UNIQUE INDEX audit_writers_once ON audit_writers (writer_id, event) WHERE event <> 'recovered';

-- Signed statements about the chains: `statement` is the exact text under the Ed25519 signature.
CREATE TABLE audit_checkpoints (
    checkpoint_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind          text        NOT NULL CHECK (kind IN ('head', 'close', 'prune')),
    at            timestamptz NOT NULL,
    writer_id     uuid,
    seq           bigint,
    statement     text        NOT NULL,
    key_id        text        NOT NULL,
    signature     bytea       NOT NULL CHECK (octet_length(signature) = 64),
    CHECK ((kind = 'prune') = (writer_id IS NULL) AND (writer_id IS NULL) = (seq IS NULL))
);
CREATE INDEX audit_checkpoints_writer ON audit_checkpoints (writer_id, seq);

-- Creates the partitions of both halves from `since` to `until`, one a `step`, and returns how many it made. A period
-- that already has rows in the default partition is moved out of it. ATTACH, not CREATE … PARTITION OF: the latter
-- would wait for every reader of audit_log while every insert waits behind it.
CREATE FUNCTION audit_ensure_partitions(since timestamptz, until timestamptz, step text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '1s' SET timezone = 'UTC' AS $$
DECLARE
    parent  text;
    part    text;
    lower   timestamptz;
    upper   timestamptz;
    made    integer := 0;
BEGIN
    IF step NOT IN ('day', 'month') THEN
        RAISE EXCEPTION 'step must be day or month, got %', step USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF since < clock_timestamp() - interval '1 year' OR until > clock_timestamp() + interval '1 year' THEN
        RAISE EXCEPTION 'at most one year back and one ahead' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF NOT pg_try_advisory_xact_lock(hashtextextended('postern audit partitions', 0)) THEN
        RETURN 0;
    END IF;
    lower := date_trunc(step, since);
    WHILE lower <= until LOOP
        upper := lower + ('1 ' || step)::interval;
        FOREACH parent IN ARRAY ARRAY['audit_intents', 'audit_log'] LOOP
            part := parent || to_char(lower, CASE step WHEN 'day' THEN '_YYYY_MM_DD' ELSE '_YYYY_MM' END);
            CONTINUE WHEN to_regclass(part) IS NOT NULL;
            BEGIN
                EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part, parent);
                EXECUTE format(
                    'WITH moved AS (DELETE FROM %I WHERE started_at >= %L AND started_at < %L RETURNING *)
                     INSERT INTO %I SELECT * FROM moved', parent || '_default', lower, upper, part);
                EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, part, lower, upper);
                made := made + 1;
            EXCEPTION WHEN invalid_object_definition THEN
                NULL; -- another step's partition covers a part of this period
            END;
        END LOOP;
        lower := upper;
    END LOOP;
    RETURN made;
END
$$;
REVOKE ALL ON FUNCTION audit_ensure_partitions(timestamptz, timestamptz, text) FROM PUBLIC;

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION audit_ensure_partitions(timestamptz, timestamptz, text)
                    SET search_path = %I, pg_temp', current_schema());
END
$$;

SELECT audit_ensure_partitions(now(), now() + interval '2 months', 'month');

-- The auditor's one query: every request that reached a server, and the exact scopes that let it through.
-- `certain` is false where a process died or is still at work between the dispatch and its row.
CREATE VIEW audit_reached AS
SELECT started_at, execution_id, server, method, tool, status, status <> 'interrupted' AS certain, auth_method, issuer, subject, client,
       agent, asserted_by, audience, scopes_required, scopes_held, scopes_matched, decision, session, http_status, instance
  FROM audit_log
 WHERE upstream_us IS NOT NULL OR status = 'interrupted'
UNION ALL
SELECT i.started_at, i.execution_id, i.server, i.method, i.tool, 'open', false, i.auth_method, i.issuer, i.subject, i.client,
       i.agent, i.asserted_by, i.audience, i.scopes_required, i.scopes_held, i.scopes_matched, NULL, i.session, NULL, i.instance
  FROM audit_intents i
 WHERE NOT EXISTS (SELECT FROM audit_log l WHERE l.started_at = i.started_at AND l.execution_id = i.execution_id);

-- What an operator sees: no payload, no digest of one, no text that a server or a hook wrote.
CREATE VIEW audit_metadata WITH (security_barrier) AS
SELECT started_at, execution_id, server, http_method, method, tool, status, decision, http_status, auth_method, issuer, subject, client,
       agent, asserted_by, audience, scopes_required, scopes_held, scopes_matched, session, protocol_version, trace_id, remote, instance,
       input_bytes, output_bytes, contract, artifact, events, completed_at, duration_us, upstream_us, repeats, last_seen, writer_id, seq
  FROM audit_log;

GRANT SELECT, INSERT ON audit_entries, audit_intents, audit_log, audit_writers, audit_checkpoints TO postern_proxy;
GRANT EXECUTE ON FUNCTION audit_ensure_partitions(timestamptz, timestamptz, text) TO postern_proxy;
GRANT SELECT ON audit_entries, audit_intents, audit_log, audit_writers, audit_checkpoints, audit_reached TO postern_auditor;
GRANT SELECT ON audit_metadata TO postern_auditor, postern_operator;
GRANT SELECT ON audit_writers TO postern_operator;
