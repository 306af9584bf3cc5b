#!/bin/sh
# Make the cluster at the first start, bring role and tables up to date at every start, then serve. Until that is done
# nobody can connect: the server of the second step listens on a socket of its own only.
set -eu
cluster=/var/lib/postgresql/data/cluster
if [ ! -d "$cluster" ]; then
  rm -rf "$cluster.new" # of a start that was killed
  # shellcheck disable=SC2046 -- a list of options
  initdb --pgdata="$cluster.new" $(cat /vault/initdb.options) >/dev/null
  mv "$cluster.new" "$cluster"
fi
mkdir -p -m 700 /tmp/private /tmp/vault
install -m 600 -t /tmp/vault /vault/ca.pem /vault/server.pem /vault/server.key # the server wants to own its key
configuration="-c config_file=/vault/postgresql.conf"
pg_ctl start --pgdata="$cluster" --silent --wait \
  --options="$configuration -c listen_addresses='' -c unix_socket_directories=/tmp/private"
psql --no-psqlrc --quiet --host=/tmp/private --username=postgres --dbname=postgres --set=ON_ERROR_STOP=1 \
  --file=/vault/schema.sql >/dev/null
pg_ctl stop --pgdata="$cluster" --silent --wait
# shellcheck disable=SC2086 -- two words
exec postgres -D "$cluster" $configuration
