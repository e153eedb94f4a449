-- name: keep_key
with made as (
    insert into proxy_keys (name, key) values ($1, $2) on conflict do nothing returning key
)
select key from made
union all
select key from proxy_keys where name = $1
limit 1;
