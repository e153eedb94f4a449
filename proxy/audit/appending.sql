-- name: types
select t.typname as name, n.nspname as schema, to_regtype('audit_link')::oid as record_type
  from pg_type t join pg_namespace n on n.oid = t.typnamespace
 where t.oid = to_regtype('audit_batch')

-- name: append
insert into audit_entries (
    format, kind, writer_id, seq, started_at, execution_id, server, http_method, method, tool,
    auth_method, issuer, subject, client, agent, asserted_by, audience, scopes_required, scopes_held, scopes_matched,
    session, protocol_version, trace_id, remote, instance, input, input_bytes, input_sha256,
    status, decision, reason, http_status, completed_at, duration_us, upstream_us, output, output_bytes, output_sha256,
    contract, artifact, error, events, hooks, repeats, last_seen, prev_hash, row_hash)
select * from unnest($1::audit_batch)
