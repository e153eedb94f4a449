-- What servers offer now that is not as pinned (SPEC C1): the present state, written by the proxies that found it. The
-- history is in audit_log (method `postern/contract`). A finding counts until `valid_until`; a proxy that is gone
-- renews none.
CREATE TABLE contract_drift (
    instance    text        NOT NULL,
    server      text        NOT NULL,
    kind        text        NOT NULL CHECK (kind IN ('tools', 'prompts', 'resources', 'templates', 'instructions', 'lock')),
    name        text        NOT NULL,
    change      text        NOT NULL,
    detail      text        NOT NULL,
    mode        text        NOT NULL CHECK (mode IN ('strict', 'warn')),
    since       timestamptz NOT NULL,
    valid_until timestamptz NOT NULL,
    PRIMARY KEY (instance, server, kind, name)
);

-- One line a server, for `fleet status`.
CREATE VIEW contract_drift_now AS
SELECT server, count(*)::integer AS things, bool_or(mode = 'strict') AS is_withheld, min(since) AS since,
       string_agg(detail, '; ' ORDER BY kind, name) AS detail
  FROM (SELECT server, kind, name, min(detail) AS detail, max(mode) AS mode, min(since) AS since
          FROM contract_drift WHERE valid_until > now() GROUP BY server, kind, name) AS found
 GROUP BY server;

-- Every worker and replica looks for itself when one of them has found something, or found it gone.
CREATE FUNCTION contract_drift_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM pg_notify('postern_contracts', OLD.server);
    ELSIF TG_OP = 'INSERT' OR NEW.detail IS DISTINCT FROM OLD.detail THEN
        PERFORM pg_notify('postern_contracts', NEW.server);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER contract_drift_changed AFTER INSERT OR UPDATE OR DELETE ON contract_drift
    FOR EACH ROW EXECUTE FUNCTION contract_drift_changed();

GRANT SELECT, INSERT, UPDATE, DELETE ON contract_drift TO postern_proxy;
GRANT SELECT ON contract_drift, contract_drift_now TO postern_proxy, postern_auditor, postern_operator;
