package io.cosmosflink.core;

import java.lang.ref.WeakReference;
import java.util.Map;
import java.util.WeakHashMap;
import java.util.function.Supplier;

/**
 * One thing for each owner, such as one set of gauges for each metric group, which keeps the first gauge of a name for good. Neither is kept
 * alive: the owner has to hold its thing, or it is made anew. Thread-safe.
 */
@Internal
public final class PerOwner<K, T> {
    private final Map<K, WeakReference<T>> all = new WeakHashMap<>();

    /** The thing of an owner. */
    public synchronized T of(K owner, Supplier<T> make) {
        WeakReference<T> there = all.get(owner);
        T thing = there == null ? null : there.get();
        if (thing == null) {
            thing = make.get();
            all.put(owner, new WeakReference<>(thing));
        }
        return thing;
    }
}
