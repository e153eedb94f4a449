-- name: claim
insert into proxy_nonces (kid, nonce, expires) values ($1, $2, to_timestamp($3))
on conflict do nothing
returning true

-- name: prune
with gone as (
    delete from proxy_nonces where expires < to_timestamp($1) - interval '5 minutes' returning 1
)
select count(*) from gone
