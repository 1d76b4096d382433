package io.cosmosflink.core;

import java.lang.ref.WeakReference;
import java.util.HashMap;
import java.util.Map;
import java.util.function.Supplier;

/**
 * One thing for each operator of a job in this process, however often the operator is made anew: some schedulers of Flink make a new source
 * out of the job graph at each restart, while the job's metric group stays, with what was registered in it. A thing that nobody else holds
 * any more is gone. Thread-safe.
 */
@Internal
public final class PerOperator<T> {
    private final Map<String, WeakReference<T>> all = new HashMap<>();

    /**
     * The thing of an operator.
     *
     * @param variables those of a metric group of the operator; where they do not name it, there is a new thing each time
     */
    public synchronized T of(Map<String, String> variables, Supplier<T> make) {
        String name = name(variables);
        if (name.isEmpty()) {
            return make.get();
        }
        all.values().removeIf(thing -> thing.get() == null);
        WeakReference<T> there = all.get(name);
        T thing = there == null ? null : there.get();
        if (thing == null) {
            thing = make.get();
            all.put(name, new WeakReference<>(thing));
        }
        return thing;
    }

    /** What tells an operator from all others of the process; empty where the variables do not say. */
    static String name(Map<String, String> variables) {
        String job = variables.get("<job_id>");
        String operator = variables.get("<operator_id>");
        return job == null || operator == null ? "" : job + "/" + operator;
    }
}
