-- Keys that all replicas of the proxy share and nobody else needs: made by whoever comes first, never changed.
create table proxy_keys (
    name    text primary key,
    key     bytea not null check (octet_length(key) = 32),
    created timestamptz not null default now()
);
comment on table proxy_keys is 'request_state: marks the requestState of a 2026-07-28 answer as the caller''s who got it';

grant select, insert on proxy_keys to postern_proxy;
