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

GRANT SELECT, INSERT, UPDATE, DELETE ON contract_drift TO postern_proxy;
GRANT SELECT ON contract_drift, contract_drift_now TO postern_proxy, postern_auditor, postern_operator;
