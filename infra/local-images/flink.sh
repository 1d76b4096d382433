#!/usr/bin/env bash
# Makes a Flink image from Flink's jars in target/flink/lib (cargo xtask build fetches them) and the JDK of this machine.
#   flink.sh [IMAGE]    default flink:2.3.0-local; BASE_IMAGE is what it stands on
# It takes the same commands and FLINK_PROPERTIES as the official image; start scripts, plugins and examples are not in it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
lib=$here/../../target/flink/lib
[ -d "$lib" ] || {
    echo "Flink's jars are missing: run cargo xtask build first" >&2
    exit 1
}
command -v jlink >/dev/null || {
    echo "jlink is missing; on Debian: apt-get install -y openjdk-17-jdk-headless" >&2
    exit 1
}
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp -r "$lib" "$context/lib"
# What Flink and its libraries may reach; debug information and manuals are not needed to run.
jlink --strip-debug --no-header-files --no-man-pages --output "$context/jre" --add-modules \
    java.se,jdk.unsupported,jdk.crypto.ec,jdk.management,jdk.management.agent,jdk.net,jdk.zipfs,jdk.jcmd,jdk.naming.dns,jdk.localedata
cp "$here/flink-entrypoint.sh" "$here/flink.Dockerfile" "$here/../flink/log4j.properties" "$context/"
chmod -R a+rX "$context"
chmod 0755 "$context/flink-entrypoint.sh"
docker build -q -t "${1:-flink:2.3.0-local}" --build-arg "BASE_IMAGE=${BASE_IMAGE:-debian:bookworm-slim}" \
    -f "$context/flink.Dockerfile" "$context" >/dev/null
echo "${1:-flink:2.3.0-local}"
