#!/bin/sh
# Writes each file of secrets/ that is not there yet: random values, and empty files for what only you know.
set -eu
cd "$(dirname "$0")/.."
umask 077
mkdir -p secrets
# Containers read the files as other users; the folder keeps everybody else on this machine out.
add() {
    [ -e "secrets/$1" ] || { cat > "secrets/$1" && chmod 0644 "secrets/$1" && echo "secrets/$1"; }
}
random() { openssl rand -hex 32; }

random | add secret_key
openssl rand -base64 32 | tr '+/' '-_' | add field_keys
random | add postgres_password
random | add redis_password
printf 'postgres://wkportal:%s@postgres:5432/wkportal\n' "$(cat secrets/postgres_password)" | add database_url
printf 'redis://:%s@valkey:6379/0\n' "$(cat secrets/redis_password)" | add redis_url
random | add wk_callback_secret
for name in secret_key_fallbacks wk_password wk_authorization oidc_client_secret; do : | add "$name"; done
