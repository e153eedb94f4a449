-- name: table
select c.oid, c.relkind::text as kind, c.oid::regclass::text as shown
  from pg_class c
 where c.oid = to_regclass($1) and c.relkind in ('r', 'p', 'v', 'm', 'f')

-- name: columns
select a.attname as name, a.atttypid as type, format_type(a.atttypid, a.atttypmod) as shown,
       coalesce(substring(format_type(a.atttypid, a.atttypmod) from '\(.*?\)'), '') as modifier, a.attnotnull as not_null
  from pg_attribute a
 where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
 order by a.attnum

-- name: type
select to_regtype($1)::oid as type

-- name: alone
select pg_advisory_xact_lock(hashtextextended('postern tables', 0))
