-- name: create_session
insert into mcp_sessions (id, server, issuer, subject, client, upstream_id, protocol_version, initialize, expires)
values ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, now() + make_interval(secs => $9));

-- name: find_session
select id, server, issuer, subject, client, upstream_id, protocol_version, initialize::text as initialize, generation
from mcp_sessions
where id = $1 and status = 'open' and expires > now() and ($2::float8 is null or last_activity > now() - make_interval(secs => $2));

-- name: end_session
update mcp_sessions set status = $2 where id = $1 and status = 'open';

-- name: touch_sessions
update mcp_sessions set last_activity = now() where id = any($1::text[]) and status = 'open';

-- name: rebind_session
with rebound as (
    update mcp_sessions set upstream_id = $2, generation = generation + 1
    where id = $1 and status = 'open' and generation = $3
    returning upstream_id, generation
)
select upstream_id, generation from rebound
union all
select upstream_id, generation from mcp_sessions
where id = $1 and status = 'open' and not exists (select from rebound);
