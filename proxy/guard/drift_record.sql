-- name: known
select kind, name, detail from contract_drift where instance = $1 and server = $2

-- name: keep
insert into contract_drift (instance, server, kind, name, change, detail, mode, since, valid_until)
values ($1, $2, $3, $4, $5, $6, $7, now(), now() + make_interval(secs => $8))
on conflict (instance, server, kind, name) do update set
    since = case when contract_drift.detail = excluded.detail then contract_drift.since else excluded.since end,
    change = excluded.change, detail = excluded.detail, mode = excluded.mode, valid_until = excluded.valid_until

-- name: forget
delete from contract_drift where instance = $1 and server = $2 and kind = $3 and name = $4
