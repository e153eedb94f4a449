-- name: unclosed_writers
select o.writer_id, o.instance,
       exists (select from pg_locks k
                where k.locktype = 'advisory' and k.objsubid = 1 and k.granted
                  and k.database = (select d.oid from pg_database d where d.datname = current_database())
                  and (k.classid::bigint << 32 | k.objid::bigint)
                      = ('x' || right(replace(o.writer_id::text, '-', ''), 16))::bit(64)::bigint) as is_alive
  from audit_writers o
 where o.event = 'opened'
   and not exists (select from audit_writers c where c.writer_id = o.writer_id and c.event = 'closed')
 order by o.event_id

-- name: try_lock
select pg_try_advisory_lock($1)

-- name: unlock
select pg_advisory_unlock($1)

-- name: open_intents
select i.seq, i.started_at, i.execution_id, i.server, i.http_method, i.method, i.tool, i.auth_method, i.issuer, i.subject,
       i.client, i.agent, i.asserted_by, i.audience, i.scopes_required, i.scopes_held, i.scopes_matched, i.session,
       i.protocol_version, i.trace_id, i.remote, i.input, i.input_bytes, i.input_sha256
  from audit_intents i
 where i.writer_id = $1 and i.seq > $2
   -- No writer writes such times and arrays. Whoever may insert can, and must not keep other requests from their row.
   and i.started_at >= '0001-01-02Z' and i.started_at < '9999-12-31Z'
   and coalesce(array_ndims(i.scopes_required), 1) = 1 and coalesce(array_ndims(i.scopes_held), 1) = 1
   and coalesce(array_ndims(i.scopes_matched), 1) = 1
   and not exists (select from audit_log l where l.started_at = i.started_at and l.execution_id = i.execution_id)
 order by i.seq
 limit $3

-- name: is_closed
select exists (select from audit_writers where writer_id = $1 and event = 'closed')

-- name: head
select seq, row_hash from audit_entries where writer_id = $1 order by seq desc limit 1

-- name: close
insert into audit_writers (writer_id, event, at, instance, detail) values ($1, 'closed', $2, $3, $4)
