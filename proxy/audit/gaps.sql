-- name: missing_numbers
select writer_id, before + 1 as first, seq - 1 as last
  from (select writer_id, seq, lag(seq, 1, 0::bigint) over (partition by writer_id order by seq) as before
          from audit_entries) links
 where seq - 1 > before
 order by writer_id, first

-- name: last_numbers
select o.writer_id, o.instance, o.at as opened_at,
       coalesce((select e.seq from audit_entries e where e.writer_id = o.writer_id order by e.seq desc limit 1), 0) as seq,
       c.at as closed_at, c.detail as closed
  from audit_writers o
  left join audit_writers c on c.writer_id = o.writer_id and c.event = 'closed'
 where o.event = 'opened'
 order by o.event_id

-- name: prunes
select count(*) from audit_checkpoints where writer_id is null

-- name: rows_of
select count(*) from audit_log where writer_id = $1 and seq <= $2

-- name: open_intents
select i.started_at, i.execution_id, i.server, i.method, i.tool, i.subject, i.instance, i.writer_id
  from audit_intents i
 where i.started_at < $1
   and not exists (select from audit_log l where l.started_at = i.started_at and l.execution_id = i.execution_id)
 order by i.started_at
 limit 1000

-- name: outages
select writer_id, at, instance, detail from audit_writers where event = 'recovered' order by event_id
