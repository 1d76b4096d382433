#!/usr/bin/env bash
# Makes the base image from Debian packages, for machines that reach a Debian mirror but no container registry.
#   base.sh [IMAGE]     default debian:bookworm-slim, so that Dockerfiles need no change
# The mirror is the one that apt here is set up with, and it stays in the image: use the image on this machine only.
set -euo pipefail
image=${1:-debian:bookworm-slim}
command -v debootstrap >/dev/null || {
    echo "debootstrap is missing; on Debian or Ubuntu: apt-get install -y --no-install-recommends debootstrap" >&2
    exit 1
}
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
if [ -z "$mirror" ]; then
    echo "apt here has no source of Debian 12 (bookworm); add one, or pull $image from a registry" >&2
    exit 1
fi
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
debootstrap --variant=minbase --include=ca-certificates bookworm "$work/root" "$mirror" >"$work/log" 2>&1 || {
    tail -n 5 "$work/log" >&2
    exit 1
}
rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/*
tar -C "$work/root" --exclude='./dev/*' -c . | docker import - "$image" >/dev/null
echo "$image"
