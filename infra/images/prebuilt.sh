#!/usr/bin/env bash
# Makes images of the project from target/release and the job jars, as `cargo xtask build` leaves them.
#   prebuilt.sh [TARGET..]     some of: cosmos-local producer consumer init; without arguments all four
# Image names come from the variables of .env.example; BASE_IMAGE is what they stand on.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT

binary() {
    # Without debug information an image is a fifth of the size.
    strip --strip-debug -o "$context/$1" "$root/target/release/$1" 2>/dev/null \
        || cp "$root/target/release/$1" "$context/$1"
}
build() {
    # Whatever the umask here: another user runs them.
    chmod 0755 "$context"/*
    for jar in "$context"/*.jar; do
        [ ! -e "$jar" ] || chmod 0644 "$jar"
    done
    docker build -q --target "$1" -t "$2" --build-arg "BASE_IMAGE=${BASE_IMAGE:-debian:bookworm-slim}" \
        -f "$root/infra/images/prebuilt.Dockerfile" "$context" >/dev/null
    echo "$2"
}

[ $# -gt 0 ] || set -- cosmos-local producer consumer init
for target in "$@"; do
    case $target in
    cosmos-local)
        binary cosmos-local
        build cosmos-local "${COSMOS_LOCAL_IMAGE:-cosmosflink-local-account}"
        ;;
    producer)
        binary cosmosflink-producer
        build producer "${PRODUCER_IMAGE:-cosmosflink-producer}"
        ;;
    consumer)
        binary cosmosflink-consumer
        build consumer "${CONSUMER_IMAGE:-cosmosflink-consumer}"
        ;;
    init)
        binary cosmosflink-init
        binary cosmosflink
        cp "$root/java-shim/jobs/target/cosmosflink-jobs-$version.jar" "$context/jobs-java.jar"
        cp "$root/scala-shim/jobs/target/cosmosflink-jobs-scala-$version.jar" "$context/jobs-scala.jar"
        cp "$root/infra/images/init.sh" "$context/"
        build init "${INIT_IMAGE:-cosmosflink-init}"
        ;;
    *)
        echo "there is no image '$target'; expected cosmos-local, producer, consumer or init" >&2
        exit 2
        ;;
    esac
done
