-- Legacy MCP sessions (SPEC S2): our id, whose it is, and what rebuilds it. Any replica serves any session.
create table mcp_sessions (
    id               text primary key check (length(id) between 22 and 128),
    server           text not null,
    issuer           text not null,
    subject          text not null,
    client           text not null,
    upstream_id      text,
    protocol_version text not null,
    initialize       jsonb not null,
    status           text not null default 'open' check (status in ('open', 'closed', 'revoked', 'lost')),
    created          timestamptz not null default now(),
    last_activity    timestamptz not null default now(),
    expires          timestamptz not null,
    generation       integer not null default 0
);
comment on column mcp_sessions.initialize is 'params of the client''s initialize request, from which a lost upstream session is rebuilt';
comment on column mcp_sessions.generation is 'counts rebuilds, so that racing clients rebuild once';

create index mcp_sessions_open on mcp_sessions (server, subject) where status = 'open';

create function postern_session_changed() returns trigger language plpgsql as $$
begin
    if new.status is distinct from old.status or new.generation is distinct from old.generation then
        perform pg_notify('postern_sessions', new.id);
    end if;
    return null;
end $$;
create trigger postern_session_changed after update on mcp_sessions
    for each row execute function postern_session_changed();

grant select, insert, update, delete on mcp_sessions to postern_proxy;
grant select on mcp_sessions to postern_auditor;
grant select (id, server, issuer, subject, client, protocol_version, status, created, last_activity, expires, generation)
    on mcp_sessions to postern_operator;
