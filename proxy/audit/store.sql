-- name: settings
select current_setting('synchronous_commit') as synchronous_commit, current_setting('fsync') as fsync,
       current_setting('server_encoding') as server_encoding, to_regclass('audit_entries') is not null as migrated

-- name: enforce_durability
set synchronous_commit = on

-- name: try_lock
select pg_try_advisory_lock($1)

-- name: end_holder
select pg_terminate_backend(pid) from pg_locks
 where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())
   and (classid::bigint << 32 | objid::bigint) = $1 and objsubid = 1 and pid = $2

-- name: head
select seq, row_hash from audit_entries where writer_id = $1 order by seq desc limit 1

-- name: probe
select 1

-- name: is_closed
select exists (select from audit_writers where writer_id = $1 and event = 'closed')

-- name: note
insert into audit_writers (writer_id, event, at, instance, detail) values ($1, $2, $3, $4, $5)

-- name: ensure_partitions
select audit_ensure_partitions($1, $2, $3)

-- name: last_statement
select statement from audit_checkpoints where writer_id = $1 order by checkpoint_id desc limit 1

-- name: record_checkpoint
insert into audit_checkpoints (kind, at, writer_id, seq, statement, key_id, signature) values ($1, $2, $3, $4, $5, $6, $7)
