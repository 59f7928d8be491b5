#!/bin/sh
# Makes what deploy/compose/compose.yml needs beside itself: random secrets in secrets/, and .env to be filled in. What is
# there already stays as it is, so it may run again.
set -eu

usage() {
  echo "usage: prepare.sh [--folder FOLDER]   (default: where this script is)"
}

folder=$(cd "$(dirname "$0")" && pwd)
while [ $# -gt 0 ]; do
  case $1 in
    --folder)
      [ $# -ge 2 ] || { usage >&2; exit 2; }
      folder=$2
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
  shift
done

secrets=$folder/secrets
# Containers read single files of it as users of their own; nobody else gets past the folder
mkdir -p "$secrets"
chmod 0700 "$secrets"

random() {
  od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}

# write NAME CONTENT
write() {
  if [ -e "$secrets/$1" ]; then
    echo "kept $secrets/$1"
    return
  fi
  printf '%s\n' "$2" >"$secrets/$1.new"
  chmod 0444 "$secrets/$1.new"
  mv "$secrets/$1.new" "$secrets/$1"
  echo "made $secrets/$1"
}

for name in postgres_password redis_password jwt_secret internal_secret bootstrap_secret grafana_password backup_key; do
  write "$name" "$(random)"
done
write database_url "postgres://traffic_share:$(cat "$secrets/postgres_password")@postgres:5432/traffic_share"
write redis_url "redis://:$(cat "$secrets/redis_password")@redis:6379"
# By which the two gateways know each other (deploy/links.md): one certificate with both names, its own authority
if [ -e "$secrets/link_cert" ]; then
  echo "kept $secrets/link_cert"
else
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=gateways \
    -addext subjectAltName=DNS:gateway-1,DNS:gateway-2 -addext extendedKeyUsage=serverAuth,clientAuth \
    -keyout "$secrets/link_key.new" -out "$secrets/link_cert.new" 2>/dev/null
  chmod 0444 "$secrets/link_key.new" "$secrets/link_cert.new"
  mv "$secrets/link_key.new" "$secrets/link_key"
  mv "$secrets/link_cert.new" "$secrets/link_cert"
  echo "made $secrets/link_cert and link_key, good for ten years"
fi
echo "keep a copy of $secrets/backup_key elsewhere: without it no backup can be read"
[ -e "$secrets/bot_token" ] || echo "put the bot's token into $secrets/bot_token"

if [ -e "$folder/.env" ]; then
  echo "kept $folder/.env"
else
  cat >"$folder/.env" <<'ENV'
COMPOSE_PROJECT_NAME=traffic-share
# The names that the world reaches this machine by; API and tunnel get certificates by themselves
API_DOMAIN=api.example.org
TUNNEL_DOMAIN=tunnel.example.org
PROXY_DOMAIN=proxy.example.org
# IP address of this machine for datagrams of SOCKS5 (deploy/udp.md); empty: buyers' UDP finds nobody
UDP_ADDRESS=
# Who hears of trouble with them
ACME_EMAIL=admin@example.org
# The Telegram bot, without @
TS_BOT_USERNAME=example_bot
# Addresses or networks that admins may come from; empty: any
TS_ADMIN_IPS=
ENV
  echo "made $folder/.env: fill it in"
fi
