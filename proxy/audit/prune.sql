-- name: partitions
select c.relname as name, p.relname as parent, pg_get_expr(c.relpartbound, c.oid) as bounds
  from pg_inherits i
  join pg_class c on c.oid = i.inhrelid
  join pg_class p on p.oid = i.inhparent
 where i.inhparent in ('audit_log'::regclass, 'audit_intents'::regclass)
 order by p.relname, c.relname

-- name: clock
select clock_timestamp()

-- name: plain_dates
set timezone = 'UTC'; set datestyle = 'ISO'

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
select r.writer_id, r.first, r.last,
       (select e.prev_hash from audit_entries e
         where e.writer_id = r.writer_id and e.seq = r.first and e.started_at >= $1 and e.started_at < $2 limit 1) as previous,
       (select e.row_hash from audit_entries e
         where e.writer_id = r.writer_id and e.seq = r.last and e.started_at >= $1 and e.started_at < $2 limit 1) as hash
  from (select writer_id, min(seq) as first, max(seq) as last from mine group by writer_id, island) r
 order by r.writer_id, r.first

-- name: heads
with newest as materialized (select max(checkpoint_id) as id from audit_checkpoints where writer_id = $1)
select c.checkpoint_id, c.kind, c.statement, c.key_id, c.signature, c.checkpoint_id = newest.id as is_newest,
       array(select e.row_hash from audit_entries e where e.writer_id = c.writer_id and e.seq = c.seq) as hashes
  from audit_checkpoints c, newest
 where c.writer_id = $1 and c.seq >= $2 and c.seq <= $3 and c.checkpoint_id > $4
 order by c.checkpoint_id
 limit $5

-- name: drop_heads
delete from audit_checkpoints where kind = 'head' and checkpoint_id = any ($1)

-- name: keep_writers_out
lock table only audit_entries in share row exclusive mode

-- name: keep_readers_out
lock table only audit_log, only audit_intents in access exclusive mode

-- name: last_numbers
with recursive present as (
      (select writer_id from {part} order by writer_id limit 1)
      union all
      select (select e.writer_id from {part} e where e.writer_id > p.writer_id order by e.writer_id limit 1)
        from present p where p.writer_id is not null)
select p.writer_id, (select max(e.seq) from {part} e where e.writer_id = p.writer_id) as last
  from present p
 where p.writer_id is not null

-- name: without_period
select (select count(*) from audit_log_default where started_at < $1)
     + (select count(*) from audit_intents_default where started_at < $1)

-- name: count
select count(*) from audit_log where started_at >= $1 and started_at < $2

-- name: patience
set local lock_timeout = '500ms'
