-- name: writers
with recursive present as (
      (select writer_id from audit_entries order by writer_id limit 1)
      union all
      select (select e.writer_id from audit_entries e where e.writer_id > p.writer_id order by e.writer_id limit 1)
        from present p where p.writer_id is not null)
select coalesce(p.writer_id, o.writer_id) as writer_id, o.writer_id is not null as is_announced,
       coalesce((select e.seq from audit_entries e where e.writer_id = p.writer_id order by e.seq desc limit 1), 0) as last_seq,
       (select c.detail from audit_writers c where c.writer_id = o.writer_id and c.event = 'closed') as closed
  from (select writer_id from present where writer_id is not null) p
  full join (select writer_id from audit_writers where event = 'opened') o on o.writer_id = p.writer_id
 order by 1

-- name: checkpoints
select checkpoint_id, statement, key_id, signature from audit_checkpoints where checkpoint_id > $1 order by checkpoint_id limit $2

-- name: prunes
select checkpoint_id, statement, key_id, signature from audit_checkpoints where writer_id is null order by checkpoint_id

-- name: entries
select {columns} from audit_entries where writer_id = $1 and seq >= $2 and seq <= $3 order by seq

-- name: next_seq
select seq from audit_entries where writer_id = $1 and seq >= $2 order by seq limit 1

-- name: without_place
select * from (select writer_id, seq, kind, execution_id, started_at from audit_entries where writer_id = $1 and seq < 1 limit $2) low
union all
select * from (select writer_id, seq, kind, execution_id, started_at from audit_entries where writer_id = $1 and seq is null limit $2) none

-- name: without_writer
select writer_id, seq, kind, execution_id, started_at from audit_entries where writer_id is null limit $1

-- name: hiding
select t.name, coalesce(c.relrowsecurity, false) as is_filtered,
       t.name in ('audit_intents', 'audit_log') and not exists (
           select from pg_inherits i where i.inhrelid = c.oid and i.inhparent = 'audit_entries'::regclass) as is_another
  from unnest('{audit_entries,audit_intents,audit_log,audit_writers,audit_checkpoints}'::text[]) as t (name)
  left join pg_class c on c.oid = to_regclass(t.name)
 order by 1
