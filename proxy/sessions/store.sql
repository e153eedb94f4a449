-- name: create_session
insert into mcp_sessions (id, server, issuer, subject, client, upstream_id, protocol_version, initialize, event_key, idle_s, expires)
values ($1, $2, $3, $4, $5, $6, $7, $8::json, $9, $10, now() + make_interval(secs => $11))
returning extract(epoch from expires)::float8 as expires;

-- name: find_session
select id, server, issuer, subject, client, upstream_id, protocol_version, event_key, generation,
       extract(epoch from expires)::float8 as expires
from mcp_sessions
where id = $1 and status = 'open' and expires > now() and last_activity + make_interval(secs => idle_s) > now();

-- name: find_status
select case when status = 'open' and expires <= now() then 'expired' else status end as status
from mcp_sessions where id = $1;

-- name: find_memory
select initialize::text as initialize, log_level, subscriptions from mcp_sessions where id = $1 and status = 'open';

-- name: end_session
with ended as (delete from mcp_questions where session = $1)
update mcp_sessions set status = $2, upstream_id = null, last_activity = now() where id = $1 and status = 'open';

-- name: revoke_sessions
update mcp_sessions set status = 'revoked', last_activity = now()
where status = 'open' and ($1::text[] is null or id = any($1)) and ($2::text is null or server = $2)
  and ($3::text is null or subject = $3) and ($4::text is null or client = $4)
returning id, server, issuer, subject, client;

-- name: touch_sessions
update mcp_sessions set last_activity = now() where id = any($1::text[]) and status = 'open' and expires > now()
returning id;

-- name: claim_rebuild
update mcp_sessions set rebuilding = now() + make_interval(secs => $3)
where id = $1 and generation = $2 and status = 'open' and (rebuilding is null or rebuilding < now())
returning id;

-- name: release_rebuild
update mcp_sessions set rebuilding = null where id = $1 and generation = $2;

-- name: rebind_session
with rebound as (
    update mcp_sessions set upstream_id = $2, generation = generation + 1, rebuilding = null
    where id = $1 and status = 'open' and generation = $3
    returning upstream_id, generation
), forgotten as (
    delete from mcp_questions where session = $1 and exists (select from rebound)
)
select upstream_id, generation from rebound
union all
select upstream_id, generation from mcp_sessions
where id = $1 and status = 'open' and not exists (select from rebound);

-- name: remember_log_level
update mcp_sessions set log_level = $2 where id = $1;

-- name: remember_subscription
update mcp_sessions set subscriptions = array_append(array_remove(subscriptions, $2), $2)
where id = $1 and cardinality(subscriptions) < 1000;

-- name: forget_subscription
update mcp_sessions set subscriptions = array_remove(subscriptions, $2) where id = $1;

-- name: note_question
insert into mcp_questions (session, id)
select $1, $2 where (select count(*) from mcp_questions where session = $1) < 1000
on conflict (session, id) do update set asked = now()
returning id;

-- name: find_question
select id from mcp_questions where session = $1 and id = $2;

-- name: forget_question
delete from mcp_questions where session = $1 and id = $2;

-- name: let_go
select pg_notify('postern_sessions', $1 || ' moved ' || $2 || ' ' || $3);

-- name: expire_sessions
with due as (
    select id from mcp_sessions
    where status = 'open' and (expires <= now() or last_activity + make_interval(secs => idle_s) <= now())
    limit $1 for update skip locked
)
update mcp_sessions set status = 'expired' from due where mcp_sessions.id = due.id;

-- name: take_ended
with ended as (
    select id, server, issuer, subject, client, upstream_id, protocol_version from mcp_sessions
    where status <> 'open' and upstream_id is not null and server = any($1::text[])
    limit $2 for update skip locked
)
update mcp_sessions set upstream_id = null from ended where mcp_sessions.id = ended.id
returning ended.id, ended.server, ended.issuer, ended.subject, ended.client, ended.upstream_id, ended.protocol_version;

-- name: delete_ended
delete from mcp_sessions where id in (
    select id from mcp_sessions where status <> 'open' and last_activity < now() - make_interval(secs => $1) limit $2
);

-- name: list_sessions
select id, server, issuer, subject, client, protocol_version,
       case when status = 'open' and (expires <= now() or last_activity + make_interval(secs => idle_s) <= now())
            then 'expired' else status end as status,
       created, last_activity, last_activity + make_interval(secs => idle_s) as idle_until, expires, generation as rebuilds
from mcp_sessions
where ($1::text is null or server = $1) and ($2::text is null or subject = $2) and ($3::text is null or client = $3)
  and ($4::boolean or (status = 'open' and expires > now() and last_activity + make_interval(secs => idle_s) > now()))
order by last_activity desc
limit $5;

-- name: show_session
select id, server, issuer, subject, client, protocol_version,
       case when status = 'open' and (expires <= now() or last_activity + make_interval(secs => idle_s) <= now())
            then 'expired' else status end as status,
       created, last_activity, last_activity + make_interval(secs => idle_s) as idle_until, expires, generation as rebuilds
from mcp_sessions
where id = $1;

-- name: bind_task
with forgotten as (
    delete from mcp_tasks where upstream_id <> $6 and id in (
        select id from mcp_tasks where server = $2 and issuer = $3 and subject = $4 and client = $5
        order by created desc offset $9)
)
insert into mcp_tasks (id, server, issuer, subject, client, upstream_id, tool, expires)
values ($1, $2, $3, $4, $5, $6, $7, now() + make_interval(secs => $8))
on conflict (server, upstream_id) do update set
    id = case when (mcp_tasks.issuer, mcp_tasks.subject, mcp_tasks.client)
                 = (excluded.issuer, excluded.subject, excluded.client) then mcp_tasks.id else excluded.id end,
    issuer = excluded.issuer, subject = excluded.subject, client = excluded.client, tool = excluded.tool,
    created = excluded.created, expires = excluded.expires
returning id;

-- name: find_tasks
select id, upstream_id, tool, (issuer, subject, client) = ($2, $3, $4) as is_own
from mcp_tasks where server = $1 and id = any($5::text[]) and expires > now();

-- name: find_upstream_tasks
select id, upstream_id, tool, (issuer, subject, client) = ($2, $3, $4) as is_own
from mcp_tasks where server = $1 and upstream_id = any($5::text[]) and expires > now();

-- name: delete_tasks
delete from mcp_tasks where id in (select id from mcp_tasks where expires <= now() limit $1);
