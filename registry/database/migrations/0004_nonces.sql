-- Nonces of signed upstream identities (SPEC I7): a signature counts once, for all workers and replicas together.
-- Logged, not unlogged: an unlogged table is empty after a crash and on a standby that takes over, and then every
-- signature inside its window could be used again. The cost is one commit per asserted request.
-- A row may go when its signature is too old to be accepted; the margin in the pruning statement covers replicas whose
-- clocks differ.
create table proxy_nonces (
    kid     text not null,
    nonce   text not null,
    expires timestamptz not null,
    primary key (kid, nonce)
);
create index proxy_nonces_expires on proxy_nonces (expires);

grant select, insert, delete on proxy_nonces to postern_proxy;
