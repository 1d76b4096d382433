#!/usr/bin/env bash
# Makes the four images of the project from target/release and the job jars, as `cargo xtask build` leaves them.
# Image names come from the variables of .env.example; BASE_IMAGE is what they stand on.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT

for name in cosmos-local cosmosflink-producer cosmosflink-consumer cosmosflink-init; do
    # Without debug information an image is a fifth of the size.
    strip --strip-debug -o "$context/$name" "$root/target/release/$name" 2>/dev/null \
        || cp "$root/target/release/$name" "$context/$name"
done
cp "$root/java-shim/jobs/target/cosmosflink-jobs-0.1.0.jar" "$context/jobs-java.jar"
cp "$root/scala-shim/jobs/target/cosmosflink-jobs-scala-0.1.0.jar" "$context/jobs-scala.jar"
cp "$root/infra/images/init.sh" "$context/"
# Whatever the umask here: another user runs them.
chmod 0755 "$context"/*
chmod 0644 "$context"/*.jar

build() {
    docker build -q --target "$1" -t "$2" --build-arg "BASE_IMAGE=${BASE_IMAGE:-debian:bookworm-slim}" \
        -f "$root/infra/images/prebuilt.Dockerfile" "$context" >/dev/null
    echo "$2"
}
build cosmos-local "${COSMOS_LOCAL_IMAGE:-cosmosflink-local-account:0.1.0}"
build producer "${PRODUCER_IMAGE:-cosmosflink-producer:0.1.0}"
build consumer "${CONSUMER_IMAGE:-cosmosflink-consumer:0.1.0}"
build init "${INIT_IMAGE:-cosmosflink-init:0.1.0}"
