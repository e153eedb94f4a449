-- What the fleet's servers are doing (SPEC L2–L5): one row per host and server, written by that host's fleet listener
-- and by nobody else. A reader that routes to loopback addresses reads the rows of its own host.
CREATE TABLE services (
    host              text             NOT NULL,
    server            text             NOT NULL,
    instance          text             NOT NULL,
    type              text             NOT NULL CHECK (type IN ('internal', 'external')),
    status            text             NOT NULL CHECK (status IN ('stopped', 'preparing', 'spawning', 'checking', 'running',
                                                                  'draining', 'stopping', 'crashed', 'failed', 'held')),
    health            text             NOT NULL CHECK (health IN ('unknown', 'healthy', 'degraded', 'unhealthy')),
    can_route         boolean          NOT NULL,
    reason            text,
    pid               integer,
    pid_start_ticks   bigint,
    boot_id           text,
    port              integer,
    binary_identity   text,
    failures          integer          NOT NULL DEFAULT 0,
    restarts          integer          NOT NULL DEFAULT 0,
    tool_count        integer,
    protocol_versions text[]           NOT NULL DEFAULT '{}',
    latency_ms        double precision,
    since             timestamptz      NOT NULL,
    down_since        timestamptz,
    started_at        timestamptz,
    checked_at        timestamptz,
    updated_at        timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (host, server),
    CONSTRAINT only_checked_servers_run CHECK (status <> 'running' OR checked_at IS NOT NULL),
    CONSTRAINT only_running_servers_route CHECK (NOT can_route OR status = 'running'),
    CONSTRAINT a_pid_has_its_start CHECK ((pid IS NULL) = (pid_start_ticks IS NULL) AND (pid IS NULL) = (boot_id IS NULL))
);
COMMENT ON COLUMN services.pid_start_ticks IS 'Start of the process in clock ticks since boot: with boot_id it tells a recycled pid.';
COMMENT ON COLUMN services.binary_identity IS 'Digest of the declared command and the files it names, as they were at the start.';
COMMENT ON COLUMN services.since IS 'When the server came into its status.';
COMMENT ON COLUMN services.down_since IS 'Since when it cannot be routed to; null while it can.';

-- Its history: every change of status, health, routing or process. `at` is the listener''s time, also for what it could
-- write only after the database came back. A removed server leaves a last event with the status `removed`.
CREATE TABLE services_events (
    event_id    bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL,
    host        text        NOT NULL,
    server      text        NOT NULL,
    instance    text        NOT NULL,
    status      text        NOT NULL,
    health      text        NOT NULL,
    can_route   boolean     NOT NULL,
    pid         integer,
    reason      text
);
CREATE INDEX services_events_of_server ON services_events (host, server, at);

CREATE FUNCTION services_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO services_events (at, host, server, instance, status, health, can_route, pid, reason)
        VALUES (clock_timestamp(), OLD.host, OLD.server, OLD.instance, 'removed', 'unknown', false, NULL, 'no longer declared');
        PERFORM pg_notify('postern_services', OLD.server);
    ELSIF TG_OP = 'INSERT' OR (NEW.status, NEW.health, NEW.can_route, NEW.reason, NEW.port)
                              IS DISTINCT FROM (OLD.status, OLD.health, OLD.can_route, OLD.reason, OLD.port)
          OR NEW.pid IS DISTINCT FROM OLD.pid THEN
        INSERT INTO services_events (at, host, server, instance, status, health, can_route, pid, reason)
        VALUES (NEW.updated_at, NEW.host, NEW.server, NEW.instance, NEW.status, NEW.health, NEW.can_route, NEW.pid, NEW.reason);
        PERFORM pg_notify('postern_services', NEW.server);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER services_changed AFTER INSERT OR UPDATE OR DELETE ON services
    FOR EACH ROW EXECUTE FUNCTION services_changed();

GRANT SELECT ON services, services_events TO postern_proxy, postern_auditor, postern_operator;
