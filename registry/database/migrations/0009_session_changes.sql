-- Replicas believe what they remember of a session until they are told that it changed: tell them, too, of a row that
-- somebody deletes by hand while the session is open. An update that only writes activity costs no call any more.
create or replace function postern_session_changed() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        perform pg_notify('postern_sessions', old.id || ' closed');
    else
        perform pg_notify('postern_sessions', new.id || ' ' || new.status);
    end if;
    return null;
end $$;

drop trigger postern_session_changed on mcp_sessions;
create trigger postern_session_changed after update on mcp_sessions for each row
    when (new.status is distinct from old.status or new.generation is distinct from old.generation)
    execute function postern_session_changed();
create trigger postern_session_deleted after delete on mcp_sessions for each row
    when (old.status = 'open') execute function postern_session_changed();
