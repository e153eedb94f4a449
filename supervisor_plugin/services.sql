-- name: write
insert into services (host, server, instance, type, status, health, can_route, reason, pid, pid_start_ticks, boot_id, port,
                      binary_identity, failures, restarts, tool_count, protocol_versions, latency_ms, since, down_since,
                      started_at, checked_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)
on conflict (host, server) do update set
    instance = excluded.instance, type = excluded.type, status = excluded.status, health = excluded.health,
    can_route = excluded.can_route, reason = excluded.reason, pid = excluded.pid,
    pid_start_ticks = excluded.pid_start_ticks, boot_id = excluded.boot_id, port = excluded.port,
    binary_identity = excluded.binary_identity, failures = excluded.failures, restarts = excluded.restarts,
    tool_count = excluded.tool_count, protocol_versions = excluded.protocol_versions,
    latency_ms = excluded.latency_ms, since = excluded.since, down_since = excluded.down_since,
    started_at = excluded.started_at, checked_at = excluded.checked_at, updated_at = excluded.updated_at

-- name: forget
delete from services where host = $1 and server = $2

-- name: recorded
select server, status, pid, pid_start_ticks, boot_id, instance, binary_identity, updated_at from services where host = $1

-- name: owner
select instance from services where host = $1 and server = $2

-- name: lock
select pg_try_advisory_lock(hashtextextended('postern service ' || $1 || ' ' || $2, 0))

-- name: unlock
select pg_advisory_unlock(hashtextextended('postern service ' || $1 || ' ' || $2, 0))

-- name: sessions
select server, count(*) as open from mcp_sessions where status = 'open' and expires > now() group by server

-- name: calls
select i.server, count(*) as open
  from audit_intents i
 where i.started_at > now() - make_interval(secs => $1)
   and not exists (select from audit_log l where l.started_at = i.started_at and l.execution_id = i.execution_id)
 group by i.server

-- name: drift
select server, detail, is_withheld from contract_drift_now

-- name: history
select at, status, health, can_route, pid, reason
  from services_events
 where host = $1 and server = $2
 order by at desc, event_id desc
 limit $3

-- name: downtime
with span as (
    select now() - make_interval(secs => $2) as opened, now() as closed
), marks as (
    select server, can_route, status, at,
           lead(at) over (partition by server order by at, event_id) as until,
           lag(can_route) over (partition by server order by at, event_id) as before
      from services_events
     where host = $1
       and at >= coalesce((select max(e.at) from services_events e, span
                            where e.host = $1 and e.server = services_events.server and e.at <= span.opened), '-infinity')
), pieces as (
    select m.server, m.can_route, m.status, m.before, m.at,
           extract(epoch from least(coalesce(m.until, span.closed), span.closed) - greatest(m.at, span.opened)) as seconds,
           span.opened
      from marks m, span
)
select server,
       coalesce(sum(seconds) filter (where seconds > 0 and status <> 'removed'), 0)::double precision as observed_s,
       coalesce(sum(seconds) filter (where seconds > 0 and not can_route and status not in ('stopped', 'removed')), 0)
           ::double precision as down_s,
       coalesce(sum(seconds) filter (where seconds > 0 and status = 'stopped'), 0)::double precision as stopped_s,
       count(*) filter (where not can_route and before and at >= opened and status not in ('draining', 'stopped'))
           as outages
  from pieces
 group by server

-- name: prune
delete from services_events where host = $1 and at < now() - make_interval(days => $2)
