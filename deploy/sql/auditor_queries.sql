-- Questions that auditors ask, as psql asks them with the role postern_auditor. Change the names and times to yours.

-- Every request that reached server notes today, and the exact scopes that let it through. `certain` is false where
-- the proxy died or is still at work: the server may have acted. A refused request is not in this view.
select started_at, subject, client, agent, method, tool, status, certain, scopes_required, scopes_matched, execution_id
  from audit_reached
 where server = 'notes' and started_at >= date_trunc('day', now())
 order by started_at desc;

-- What one person did, everywhere.
select started_at, server, method, tool, status, decision, scopes_matched
  from audit_log
 where subject = 'alice' and started_at >= now() - interval '7 days'
 order by started_at desc;

-- Who was refused most, and why.
select server, subject, decision, sum(repeats) as requests, max(coalesce(last_seen, started_at)) as latest
  from audit_log
 where status = 'denied' and started_at >= now() - interval '1 day'
 group by server, subject, decision
 order by requests desc
 limit 20;

-- Scopes that somebody holds and nothing ever needed: candidates for removal.
select server, subject, scope, count(*) as requests
  from audit_log, unnest(scopes_held) as scope
 where started_at >= now() - interval '30 days'
 group by server, subject, scope
having bool_and(scope <> all (scopes_matched))
 order by server, subject, scope;

-- Calls whose outcome is not known: the proxy ended between intent and row.
select started_at, server, tool, subject, input_sha256, execution_id
  from audit_log
 where status = 'interrupted'
 order by started_at desc
 limit 100;

-- Outages of the store as the writers saw them.
select at, instance, detail ->> 'since' as since, detail ->> 'reason' as reason, detail ->> 'owed' as owed,
       detail -> 'lost' as lost, detail -> 'committed_but_withheld' as withheld
  from audit_writers
 where event = 'recovered'
 order by event_id desc
 limit 100;

-- How large the log is, by partition.
select c.relname as partition, pg_size_pretty(pg_total_relation_size(c.oid)) as size, c.reltuples::bigint as about_rows
  from pg_inherits i
  join pg_class c on c.oid = i.inhrelid
 where i.inhparent in ('audit_log'::regclass, 'audit_intents'::regclass)
 order by c.relname;
