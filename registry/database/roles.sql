-- The three application roles that the migrations grant to. The embedded cluster and `postern migrate` run this file;
-- on a managed PostgreSQL a DBA runs it once with a role that has CREATEROLE, and then either gives these roles
-- passwords or grants them to the login roles of the deployment.
--   postern_proxy     way of a request: insert and select, never update or delete audit rows
--   postern_auditor   reads everything, payloads included
--   postern_operator  reads metadata only
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['postern_proxy', 'postern_auditor', 'postern_operator'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I LOGIN', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- another starter was faster
            END;
        END IF;
    END LOOP;
END
$$;
