#!/usr/bin/env bash
# A Docker engine of one's own, from Debian's packages, beside any other: own socket, own data, all in one folder.
#   engine.sh start DIR   starts it and prints its DOCKER_HOST   (needs root, and the packages docker.io and iptables)
#   engine.sh stop DIR    stops the engine that start began, by its own pid
set -euo pipefail
usage() {
    sed -n '2,4s/^# *//p' "$0" >&2
    exit 2
}
[ $# -eq 2 ] || usage
mkdir -p "$2"
dir=$(cd "$2" && pwd)
socket=unix://$dir/docker.sock

alive() { # the pid in the file is only believed when it is a dockerd that was given our folder
    [ -s "$dir/dockerd.pid" ] && tr '\0' ' ' <"/proc/$(cat "$dir/dockerd.pid")/cmdline" 2>/dev/null | grep -qF -- "--data-root $dir/data"
}

case $1 in
start)
    if ! alive; then
        for tool in dockerd iptables; do
            command -v "$tool" >/dev/null || {
                echo "$tool is missing; on Debian: apt-get install -y --no-install-recommends docker.io iptables" >&2
                exit 1
            }
        done
        [ "$(id -u)" = 0 ] || {
            echo "dockerd must be started by root; start an engine otherwise and set DOCKER_HOST" >&2
            exit 1
        }
        rm -f "$dir/dockerd.pid" "$dir/docker.sock"
        # setsid: Ctrl-C at the terminal must not stop the engine below containers that are still being stopped.
        setsid dockerd --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/dockerd.pid" -H "$socket" \
            >"$dir/dockerd.log" 2>&1 </dev/null &
        for _ in $(seq 100); do
            DOCKER_HOST=$socket docker version >/dev/null 2>&1 && break
            sleep 0.2
        done
        DOCKER_HOST=$socket docker version >/dev/null 2>&1 || {
            echo "dockerd does not answer; the end of $dir/dockerd.log:" >&2
            tail -n 5 "$dir/dockerd.log" >&2
            exit 1
        }
    fi
    echo "$socket"
    ;;
stop)
    if alive; then
        pid=$(cat "$dir/dockerd.pid")
        kill "$pid"
        for _ in $(seq 150); do
            kill -0 "$pid" 2>/dev/null || exit 0
            sleep 0.2
        done
        echo "dockerd (pid $pid) has not ended within 30 s" >&2
        exit 1
    fi
    ;;
*) usage ;;
esac
