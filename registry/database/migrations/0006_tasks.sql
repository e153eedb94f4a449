-- MCP tasks (SPEC S, SEC-16): our id, whose it is, and the server's own. One upstream identity stands for many callers, so
-- that nobody but us can say to whom a task belongs. Any replica serves any task.
create table mcp_tasks (
    id          text primary key check (length(id) between 22 and 128),
    server      text not null,
    issuer      text not null,
    subject     text not null,
    client      text not null,
    upstream_id text not null check (length(upstream_id) between 1 and 512),
    tool        text not null,
    created     timestamptz not null default now(),
    expires     timestamptz not null,
    unique (server, upstream_id)
);
comment on column mcp_tasks.client is 'of an anonymous caller its session: nothing else tells one from another';
comment on column mcp_tasks.upstream_id is 'the server''s own id; one that the server gives out again belongs to whom it was given last';
comment on column mcp_tasks.tool is 'what the task runs: it is authorized again with every request for the task';

create index mcp_tasks_held on mcp_tasks (server, issuer, subject, client, created);
create index mcp_tasks_over on mcp_tasks (expires);

grant select, insert, update, delete on mcp_tasks to postern_proxy;
grant select on mcp_tasks to postern_auditor;
grant select (server, issuer, subject, client, tool, created, expires) on mcp_tasks to postern_operator;
