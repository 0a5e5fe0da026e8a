#!/bin/sh
# Run once by the postgres image: the role that every process uses and that owns nothing.
set -eu
psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set password="$(cat /run/secrets/app_password)" <<'SQL'
CREATE ROLE countersign LOGIN PASSWORD :'password';
SQL
