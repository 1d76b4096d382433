#!/bin/sh
# Without arguments: containers first, then both jobs. With arguments: the tool for dead letters ("dlq list"), or the initializer itself, such
# as "count" or "verify".
set -eu
if [ "${1:-}" = dlq ]; then
    exec cosmosflink "$@"
fi
if [ $# -gt 0 ]; then
    exec cosmosflink-init "$@"
fi

# A local account writes its key when it starts.
if [ "${COSMOS_AUTH:-key}" = key ] && [ -n "${COSMOS_KEY_FILE:-}" ]; then
    waited=0
    until [ -s "$COSMOS_KEY_FILE" ]; do
        if [ "$waited" -ge "${COSMOS_WAIT:-60}" ]; then
            echo "no account key at $COSMOS_KEY_FILE after $waited s: is the local account up (profile local)," \
                "or does COSMOS_KEY_SOURCE name a folder with a file 'key'?" >&2
            exit 2
        fi
        sleep 1
        waited=$((waited + 1))
    done
fi

cosmosflink-init create

case ${JOB_VARIANT:-java} in
    java) package=io.cosmosflink.jobs ;;
    scala) package=io.cosmosflink.scaladsl.jobs ;;
    *)
        echo "JOB_VARIANT is '$JOB_VARIANT'; it must be java or scala" >&2
        exit 2
        ;;
esac

submit() {
    cosmosflink-init submit --jar "/opt/cosmosflink/jobs-${JOB_VARIANT:-java}.jar" --name "$1" --entry-class "$package.$2" \
        ${JOB_PARALLELISM:+--parallelism "$JOB_PARALLELISM"} --wait "${COSMOS_WAIT:-60}"
}
submit cosmosflink-sink FlinkCosmosSinkJob
submit cosmosflink-source FlinkCosmosSourceJob
