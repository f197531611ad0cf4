#!/bin/sh
# Builds this checkout, migrates, and replaces the services one after the other: an upgrade, or a changed .env or secret.
set -eu
cd "$(dirname "$0")/.."
docker compose build
docker compose run --rm migrate
for service in web web-2 waits jobs beat; do
    docker compose up --detach --no-deps --force-recreate --wait "$service"
done
# Only if it changed: the proxy is the one service that everybody passes.
docker compose up --detach --no-deps --wait proxy
