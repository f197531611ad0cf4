#!/bin/sh
# Builds this checkout, migrates, and replaces the services one after the other: an upgrade, or a changed .env or secret.
# PostgreSQL and Valkey stay as they are.
set -eu
cd "$(dirname "$0")/.."
docker compose build
docker compose run --rm migrate
for service in web web-2 waits waits-2 jobs beat; do
    docker compose up --detach --no-deps --force-recreate --wait "$service"
done
# The proxy is the one service that everybody passes: only if its file changed, which Compose does not look at.
docker compose exec -T proxy cat /etc/caddy/Caddyfile | cmp -s - deploy/Caddyfile ||
    docker compose up --detach --no-deps --force-recreate --wait proxy
