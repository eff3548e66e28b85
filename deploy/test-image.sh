#!/usr/bin/env bash
# Builds the image of the Dockerfile and runs it, without a network: a busybox stands in
# for the golang image, and its "go install" copies a program built here. Needs buildah,
# busybox-static and root, or a user who may use user namespaces.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tmp=$(mktemp -d)
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
export CONTAINERS_STORAGE_CONF="$tmp/storage.conf"
cat >"$CONTAINERS_STORAGE_CONF" <<EOF
[storage]
driver = "vfs"
runroot = "$tmp/run"
graphroot = "$tmp/graph"
EOF
container='' server=''
finish() {
  if [ -n "$server" ]; then kill -KILL "$server" 2>/dev/null || true; fi
  if [ -n "$container" ]; then buildah rm "$container" >/dev/null || true; fi
  rm -rf "$tmp"
}
trap finish EXIT

echo "# the base image's stand-in"
mkdir -p "$tmp/base/bin" "$tmp/base/etc/ssl/certs" "$tmp/base/tmp"
CGO_ENABLED=0 go build -ldflags=-s -o "$tmp/base/pixmed" ./cmd/pixmed
cp "$(command -v busybox)" "$tmp/base/bin/busybox"
for name in sh mkdir cp; do ln -s busybox "$tmp/base/bin/$name"; done
cp /etc/ssl/certs/ca-certificates.crt "$tmp/base/etc/ssl/certs/"
cat >"$tmp/base/bin/go" <<'EOF'
#!/bin/sh
[ "$*" = "install -trimpath -ldflags=-s github.com/pixmed-go/pixmed/cmd/pixmed@v0.0.0-test" ] || exit 9
[ "$CGO_ENABLED" = 0 ] || exit 8
mkdir -p "$GOBIN" && cp /pixmed "$GOBIN/"
EOF
chmod 755 "$tmp/base/bin/go"
printf 'FROM scratch\nCOPY . /\nENV PATH=/bin\n' >"$tmp/Dockerfile"
buildah bud -q -f "$tmp/Dockerfile" -t docker.io/library/golang:1.26 "$tmp/base" >/dev/null

echo "# the image"
buildah bud -q --pull-never --build-arg VERSION=v0.0.0-test -t pixmed-test deploy >/dev/null

expect() { # NAME TEMPLATE WANT
  local got
  got=$(buildah inspect --type image --format "$2" pixmed-test)
  if [ "$got" != "$3" ]; then
    echo "$1 is $got, want $3"
    exit 1
  fi
}
expect user '{{.OCIv1.Config.User}}' 65532:65532
expect entrypoint '{{.OCIv1.Config.Entrypoint}}' '[/pixmed]'
expect command '{{.OCIv1.Config.Cmd}}' '[serve]'
expect volumes '{{.OCIv1.Config.Volumes}}' 'map[/data:{}]'

container=$(buildah from --pull-never pixmed-test)
root=$(buildah mount "$container")
files=$(cd "$root" && find . -type f | sort)
want=$'./etc/ssl/certs/ca-certificates.crt\n./pixmed'
if [ "$files" != "$want" ]; then
  echo "the image holds $files"
  exit 1
fi

echo "# the program, as the image's user, with all but /data read-only"
secret=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
settings=(PIXMED_WEBHOOK_SECRETS="$secret" PIXMED_LISTEN=127.0.0.1:0 PIXMED_ADMIN=127.0.0.1:0 PIXMED_DRAIN=0)
while IFS= read -r variable; do
  settings+=("$variable")
done < <(buildah inspect --type image --format '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' pixmed-test | sed '/^$/d')
run() {
  exec unshare --mount --propagation private sh -c '
    root=$1; shift
    mount --bind "$root" "$root" && mount --bind "$root/data" "$root/data" && mount -o remount,bind,ro "$root" || exit 7
    if touch "$root/written" 2>/dev/null; then echo "the root can be written" >&2; exit 6; fi
    exec setpriv --no-new-privs chroot --userspec=65532:65532 --groups= "$root" "$@"' sh "$root" "$@"
}
(run /pixmed version)
(exec env -i "${settings[@]}" PATH="$PATH" bash -c "$(declare -f run); root=$root; run /pixmed serve") 2>"$tmp/log" &
server=$!
for _ in $(seq 300); do
  address=$(sed -n 's/.*"for":"webhooks","address":"\([^"]*\)".*/\1/p' "$tmp/log")
  if [ -n "$address" ]; then break; fi
  if ! kill -0 "$server" 2>/dev/null; then break; fi
  sleep 0.1
done
if [ -z "$address" ]; then
  echo "it does not listen:"
  cat "$tmp/log"
  exit 1
fi
PIXMED_WEBHOOK_SECRETS=$secret "$tmp/base/pixmed" send "http://$address/webhooks/infraction" debited
owner=$(stat -c '%u:%g %a' "$root/data/inbox.db")
if [ "$owner" != "65532:65532 600" ]; then
  echo "inbox.db is of $owner"
  exit 1
fi
kill -TERM "$server"
if ! wait "$server"; then
  echo "it did not end well:"
  cat "$tmp/log"
  exit 1
fi
server=''
echo "the image has $(du -sm "$root" | cut -f1) MiB"
