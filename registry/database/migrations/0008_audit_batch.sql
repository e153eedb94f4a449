-- What a writer commits as one parameter of one statement: the entries of a batch, each with the columns of
-- audit_entries in their order (format 1; docs/audit.md, "Durability"). A COPY does the same in two round trips.
CREATE TYPE audit_link AS (
    format smallint, kind text, writer_id uuid, seq bigint, started_at timestamptz, execution_id uuid,
    server text, http_method text, method text, tool text,
    auth_method text, issuer text, subject text, client text, agent text, asserted_by text, audience text,
    scopes_required text[], scopes_held text[], scopes_matched text[],
    session text, protocol_version text, trace_id text, remote text, instance text,
    input text, input_bytes bigint, input_sha256 bytea,
    status text, decision text, reason text, http_status smallint,
    completed_at timestamptz, duration_us bigint, upstream_us bigint,
    output text, output_bytes bigint, output_sha256 bytea,
    contract text, artifact text, error text, events bigint, hooks text, repeats bigint, last_seen timestamptz,
    prev_hash bytea, row_hash bytea
);

-- A name of its own for the array: the writer makes the bytes itself and tells its driver so by this type.
CREATE DOMAIN audit_batch AS audit_link[];
COMMENT ON DOMAIN audit_batch IS 'a batch of entries on its way into audit_entries; nothing is stored in this type';
