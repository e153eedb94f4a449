-- Legacy MCP sessions (SPEC S2): our id, whose it is, and what rebuilds it. Any replica serves any session.
create table mcp_sessions (
    id               text primary key check (length(id) between 22 and 128),
    server           text not null,
    issuer           text not null,
    subject          text not null,
    client           text not null,
    upstream_id      text,
    protocol_version text not null,
    initialize       json,
    log_level        text,
    subscriptions    text[] not null default '{}',
    event_key        bytea not null check (octet_length(event_key) = 32),
    status           text not null default 'open' check (status in ('open', 'closed', 'expired', 'revoked', 'lost')),
    created          timestamptz not null default now(),
    last_activity    timestamptz not null default now(),
    idle_s           double precision not null check (idle_s > 0),
    expires          timestamptz not null,
    generation       integer not null default 0,
    rebuilding       timestamptz
) with (fillfactor = 80);
comment on column mcp_sessions.upstream_id is 'the server''s own id; null once the server has been told that the session is over';
comment on column mcp_sessions.initialize is 'params of the client''s initialize request, from which a lost upstream session is rebuilt; null if too large to keep';
comment on column mcp_sessions.log_level is 'what logging/setLevel asked for last; asked for again in a rebuilt session, like the subscriptions';
comment on column mcp_sessions.event_key is 'signs the event ids that the client sees, so that no session can name an event of another';
comment on column mcp_sessions.generation is 'counts rebuilds, so that racing clients rebuild once';
comment on column mcp_sessions.rebuilding is 'until then one replica has the right to rebuild';

create index mcp_sessions_open on mcp_sessions (server, subject) where status = 'open';
create index mcp_sessions_untold on mcp_sessions (server) where status <> 'open' and upstream_id is not null;

-- What a server has asked the client (sampling, elicitation, roots, ping) and the client has not answered yet.
create table mcp_questions (
    session text not null references mcp_sessions on delete cascade,
    id      text not null check (length(id) <= 512),
    asked   timestamptz not null default now(),
    primary key (session, id)
);
comment on column mcp_questions.id is 'the JSON-RPC id as JSON text: 1 is not "1"';

create function postern_session_changed() returns trigger language plpgsql as $$
begin
    if new.status is distinct from old.status or new.generation is distinct from old.generation then
        perform pg_notify('postern_sessions', new.id || ' ' || new.status);
    end if;
    return null;
end $$;
create trigger postern_session_changed after update on mcp_sessions
    for each row execute function postern_session_changed();

grant select, insert, update, delete on mcp_sessions, mcp_questions to postern_proxy;
grant select (id, server, issuer, subject, client, upstream_id, protocol_version, initialize, log_level, subscriptions, status, created,
              last_activity, idle_s, expires, generation) on mcp_sessions to postern_auditor;
grant select (id, server, issuer, subject, client, protocol_version, status, created, last_activity, idle_s, expires, generation)
    on mcp_sessions to postern_operator;
