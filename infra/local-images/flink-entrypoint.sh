#!/bin/bash
# The commands of the official image that a session cluster needs: jobmanager, taskmanager; anything else is run as it is.
set -euo pipefail
conf=$FLINK_HOME/conf
packages=(java.lang java.net java.io java.nio java.lang.reflect java.text java.time java.util java.util.concurrent
    java.util.concurrent.atomic java.util.concurrent.locks)
opens=(--add-opens=java.base/sun.nio.ch=ALL-UNNAMED)
for package in "${packages[@]}"; do
    opens+=("--add-opens=java.base/$package=ALL-UNNAMED")
done

# Defaults first; a later line replaces an earlier one of the same key.
configure() {
    {
        printf '%s: %s\n' \
            jobmanager.rpc.address "${JOB_MANAGER_RPC_ADDRESS:-$(hostname -f)}" \
            jobmanager.bind-host 0.0.0.0 \
            jobmanager.memory.process.size 1600m \
            taskmanager.bind-host 0.0.0.0 \
            taskmanager.host "$(hostname -i | cut -d' ' -f1)" \
            taskmanager.memory.process.size 1728m \
            taskmanager.numberOfTaskSlots "${TASK_MANAGER_NUMBER_OF_TASK_SLOTS:-1}" \
            rest.address "${JOB_MANAGER_RPC_ADDRESS:-$(hostname -f)}" \
            rest.bind-address 0.0.0.0 \
            blob.server.port 6124 \
            io.tmp.dirs "$FLINK_HOME/tmp"
        printf '%s\n' "${FLINK_PROPERTIES:-}" | tr -d ' \t'
    } | awk '{
        at = index($0, ":")
        if (at == 0) next
        key = substr($0, 1, at - 1); value = substr($0, at + 1); sub(/^ +/, "", value)
        if (!(key in values)) order[++n] = key
        values[key] = value
    } END { for (i = 1; i <= n; i++) print order[i] ": " values[order[i]] }' >"$conf/config.yaml"
}

# Flink computes the memory of its processes itself: one line of JVM flags, one of dynamic options.
start() { # WHAT-TO-ASK CLASS ARGUMENTS..
    local lines flags dynamic
    lines=$(java -cp "$FLINK_HOME/lib/*" org.apache.flink.runtime.util.bash.BashJavaUtils "$1" --configDir "$conf" \
        | sed -n 's/^BASH_JAVA_UTILS_EXEC_RESULT://p')
    flags=$(sed -n 1p <<<"$lines") dynamic=$(sed -n 2p <<<"$lines")
    if [ -z "$flags" ]; then
        echo "Flink refuses its configuration: see above, and FLINK_PROPERTIES" >&2
        exit 1
    fi
    # Unquoted on purpose: both lines are lists of words.
    # shellcheck disable=SC2086
    exec java $flags "${opens[@]}" -Djava.io.tmpdir="$FLINK_HOME/tmp" \
        -Dlog4j.configurationFile="file:$conf/log4j.properties" \
        -cp "$FLINK_HOME/lib/*" "$2" --configDir "$conf" "${@:3}" $dynamic
}

case ${1:-help} in
jobmanager)
    configure
    start GET_JM_RESOURCE_PARAMS org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint --executionMode cluster
    ;;
taskmanager)
    configure
    start GET_TM_RESOURCE_PARAMS org.apache.flink.runtime.taskexecutor.TaskManagerRunner
    ;;
help)
    echo "usage: jobmanager | taskmanager | a command"
    ;;
*)
    exec "$@"
    ;;
esac
