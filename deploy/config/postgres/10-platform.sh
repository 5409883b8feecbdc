#!/bin/sh
# Run by PostgreSQL's image once, at the first start: the platform's database and the user that owns it.
# It is no superuser; CREATEROLE is for the two roles that the platform makes for itself.
# The password goes by a file, never by an argument, and no statement of this session is logged.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
\set password `cat /run/dataaggregator/secrets/platform_password`
CREATE ROLE dataaggregator LOGIN CREATEROLE PASSWORD :'password';
CREATE DATABASE dataaggregator OWNER dataaggregator;
REVOKE CONNECT, TEMPORARY ON DATABASE dataaggregator FROM PUBLIC;
\connect dataaggregator
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
SQL
