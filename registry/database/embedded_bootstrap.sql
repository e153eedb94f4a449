-- Run once in single-user mode on a fresh embedded cluster, after roles.sql. There a statement ends at an empty line.
CREATE ROLE postern_owner LOGIN CREATEDB;

CREATE DATABASE postern OWNER postern_owner;

REVOKE ALL ON DATABASE postern FROM PUBLIC;

GRANT CONNECT ON DATABASE postern TO postern_proxy, postern_auditor, postern_operator;

