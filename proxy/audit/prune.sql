-- name: partitions
select c.relname as name, p.relname as parent, pg_get_expr(c.relpartbound, c.oid) as bounds
  from pg_inherits i
  join pg_class c on c.oid = i.inhrelid
  join pg_class p on p.oid = i.inhparent
 where i.inhparent in ('audit_log'::regclass, 'audit_intents'::regclass)
 order by p.relname, c.relname

-- name: open_intents
select count(*)
  from audit_intents i
 where i.started_at >= $1 and i.started_at < $2
   and not exists (select from audit_log l where l.started_at = i.started_at and l.execution_id = i.execution_id)

-- name: ranges
with mine as (
     select writer_id, seq, prev_hash, row_hash, seq - row_number() over (partition by writer_id order by seq) as island
       from audit_entries
      where started_at >= $1 and started_at < $2)
select writer_id, min(seq) as first, max(seq) as last,
       (array_agg(prev_hash order by seq))[1] as previous,
       (array_agg(row_hash order by seq desc))[1] as hash
  from mine
 group by writer_id, island
 order by writer_id, first

-- name: count
select count(*) from audit_log where started_at >= $1 and started_at < $2

-- name: patience
set local lock_timeout = '2s'
