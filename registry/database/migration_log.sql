-- name: missing_roles
select wanted from unnest($1::text[]) as wanted
where wanted not in (select rolname from pg_catalog.pg_roles)
order by wanted;

-- name: is_there
select to_regclass('schema_migrations') is not null;

-- name: create_log
create table if not exists schema_migrations (
    version    integer primary key,
    name       text not null,
    sha256     text not null check (length(sha256) = 64),
    applied_at timestamptz not null default now()
);

-- name: grant_log
grant select on schema_migrations to postern_proxy, postern_auditor, postern_operator;

-- name: limit_waiting
select set_config('lock_timeout', $1, false);

-- name: lock
select pg_advisory_lock($1);

-- name: unlock
select pg_advisory_unlock($1);

-- name: applied
select version, name, sha256 from schema_migrations order by version;

-- name: record
insert into schema_migrations (version, name, sha256) values ($1, $2, $3);
