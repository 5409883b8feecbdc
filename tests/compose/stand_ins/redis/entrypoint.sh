#!/bin/sh
set -eu
if [ "$(id -u)" = 0 ]; then
    find /data ! -user redis -exec chown redis {} +
    exec setpriv --reuid=redis --regid=redis --init-groups "$0" "$@"
fi
exec "$@"
