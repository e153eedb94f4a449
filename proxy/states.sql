-- name: make_key
insert into proxy_keys (name, key) values ($1, $2) on conflict do nothing;

-- name: find_key
select key from proxy_keys where name = $1;
