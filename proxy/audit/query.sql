-- Placeholders in braces are filled from constants of query.py, never from input: {source} is audit_log or, for roles
-- without payloads, audit_metadata; {matches} is the condition named `matches`.

-- name: may_see_payloads
select has_table_privilege('audit_log', 'select')

-- name: columns
select attname as name from pg_attribute where attrelid = '{source}'::regclass and attnum > 0 and not attisdropped order by attnum

-- name: matches
    ($1::text is null or server = $1)
and ($2::text is null or tool = $2)
and ($3::text is null or method = $3)
and ($4::text is null or subject = $4)
and ($5::text is null or agent = $5)
and ($6::text[] is null or status = any ($6))
and ($7::text is null or decision = $7 or decision like $7 || '.%')
and ($8::text is null or $8 = any (scopes_matched) or $8 = any (scopes_required))
and ($9::text is null or session = $9)
and ($10::text is null or asserted_by = $10)
and ($11::text is null or trace_id = $11)
and ($12::timestamptz is null or started_at >= $12)
and ($13::timestamptz is null or started_at < $13)

-- name: newest_first
select * from {source}
 where {matches}
   and ($14::timestamptz is null or (started_at, execution_id) < ($14, $15::uuid))
 order by started_at desc, execution_id desc
 limit $16

-- name: oldest_first
select * from {source}
 where {matches}
   and ($14::timestamptz is null or (started_at, execution_id) > ($14, $15::uuid))
 order by started_at, execution_id
 limit $16

-- name: one
select * from {source} where execution_id = $1 and started_at >= $2 and started_at < $3

-- name: one_anywhere
select * from {source} where execution_id = $1

-- name: intent
select * from audit_intents where execution_id = $1 and started_at >= $2 and started_at < $3

-- name: intent_anywhere
select * from audit_intents where execution_id = $1

-- name: stats
select {by} as name, count(*) as rows, least(coalesce(sum(repeats), 0), 9223372036854775807)::bigint as requests,
       count(*) filter (where status = 'denied') as denied,
       count(*) filter (where status in ('failed', 'timeout', 'tool_error')) as failed,
       count(*) filter (where status = 'interrupted') as interrupted,
       percentile_disc(0.5) within group (order by duration_us) filter (where upstream_us is not null) as p50_us,
       percentile_disc(0.95) within group (order by duration_us) filter (where upstream_us is not null) as p95_us,
       percentile_disc(0.99) within group (order by duration_us) filter (where upstream_us is not null) as p99_us,
       percentile_disc(0.5) within group (order by duration_us - greatest(upstream_us, 0)) filter (where upstream_us is not null) as own_p50_us
  from {source}
 where {matches}
 group by 1
 order by 2 desc, 1
 limit $14

-- name: tail_heads
select w.writer_id, h.seq
  from (select distinct writer_id from audit_writers o
         where o.event = 'opened'
           and (o.at > now() - interval '1 day' or o.writer_id = any ($1::uuid[])
                or not exists (select from audit_writers c where c.writer_id = o.writer_id and c.event = 'closed'))) w
 cross join lateral (select seq from {source} l where l.writer_id = w.writer_id order by seq desc limit 1) h

-- name: tail
select l.*
  from unnest($14::uuid[], $15::bigint[], $16::bigint[]) as w (writer_id, after, upto)
 cross join lateral (
       select * from {source} l
        where l.writer_id = w.writer_id and l.seq > w.after and l.seq <= w.upto
          and {matches}) l
 order by l.completed_at, l.execution_id
