package io.cosmosflink.connector.cosmosdb;

import io.cosmosflink.core.Core;
import io.cosmosflink.core.Core.Role;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.Finality;
import io.cosmosflink.core.NativeCore;
import io.cosmosflink.core.OptionText;
import java.io.Serializable;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import org.apache.flink.annotation.PublicEvolving;

/**
 * Options of a source, a sink or a job: a flat map with the names of {@code docs/configuration.md}. Immutable. What is secret never
 * shows in {@link #toString}.
 *
 * <p>The core checks the values and knows the defaults; {@link #validated} is the only place that fills them in.
 */
@PublicEvolving
public final class CosmosDBOptions implements Serializable {
    private static final long serialVersionUID = 1L;

    private final TreeMap<String, String> values;

    private CosmosDBOptions(Map<String, String> values) {
        this.values = new TreeMap<>(values);
    }

    /** No option at all. */
    public static CosmosDBOptions empty() {
        return new CosmosDBOptions(Map.of());
    }

    public static CosmosDBOptions of(Map<String, String> values) {
        return new CosmosDBOptions(values);
    }

    /**
     * Options from a job's arguments and environment. An argument is named by option ({@code database}) or by variable
     * ({@code COSMOS_DB}) and goes before the environment.
     *
     * @param arguments name to value, without hyphens: what {@link io.cosmosflink.core.Arguments#parse} returns, or {@code
     *     ParameterTool.toMap()} of the Flink at hand
     * @param environment usually {@code System.getenv()}; variables of other programs are no mistake
     * @throws io.cosmosflink.core.CosmosException of kind CONFIG for an unknown argument or a bad value
     */
    public static CosmosDBOptions fromEnvironmentAndArguments(
            Map<String, String> arguments, Map<String, String> environment) {
        return new CosmosDBOptions(NativeCore.get().resolveOptions(arguments, environment));
    }

    /** The same with one option more, or another value for it. */
    public CosmosDBOptions with(String name, String value) {
        CosmosDBOptions copy = new CosmosDBOptions(values);
        copy.values.put(name, value);
        return copy;
    }

    /** These, and those of {@code others} on top. */
    public CosmosDBOptions with(Map<String, String> others) {
        CosmosDBOptions copy = new CosmosDBOptions(values);
        copy.values.putAll(others);
        return copy;
    }

    /** The same without an option. */
    CosmosDBOptions without(String name) {
        CosmosDBOptions copy = new CosmosDBOptions(values);
        copy.values.remove(name);
        return copy;
    }

    public Optional<String> get(String name) {
        return Optional.ofNullable(values.get(name));
    }

    /**
     * A value that must be there.
     *
     * @throws IllegalStateException when it is not, which after {@link #validated} means an option without default
     */
    public String require(String name) {
        return get(name).orElseThrow(() -> new IllegalStateException("option '" + name + "' has no value; set it"));
    }

    /** A number that must be there. After {@link #validated} a duration is one of milliseconds, and a size one of bytes. */
    public long number(String name) {
        String value = require(name);
        try {
            return Long.parseLong(value);
        } catch (NumberFormatException e) {
            throw new IllegalStateException("option '" + name + "' is '" + value + "', not a whole number", e);
        }
    }

    /** A copy of the values, secrets included. */
    public Map<String, String> toMap() {
        return new TreeMap<>(values);
    }

    /**
     * Checked by the core, with its defaults filled in, durations in milliseconds and sizes in bytes.
     *
     * @throws CosmosException of kind CONFIG when an option is unknown, missing or wrong
     */
    public CosmosDBOptions validated(Role role) {
        return validated(NativeCore.get(), role);
    }

    CosmosDBOptions validated(Core core, Role role) {
        return new CosmosDBOptions(core.validateOptions(role, values));
    }

    /**
     * Like {@link #validated}, for a task or the enumerator.
     *
     * @throws CosmosDBUnrecoverableException when an option is unknown, missing or wrong: it is the same after a restart
     */
    CosmosDBOptions validatedOnCluster(Core core, Role role) {
        try {
            return validated(core, role);
        } catch (CosmosException e) {
            throw Failures.open("the options are not right", e, Finality.of(values, false));
        }
    }

    /**
     * Like {@link #validated}, but where this process has no core (a client on another platform than the cluster) the options stay as
     * they are and the cluster checks them.
     */
    CosmosDBOptions validatedIfPossible(Core.Provider provider, Role role) {
        Core core;
        try {
            core = provider.get();
        } catch (UnsatisfiedLinkError e) {
            return this;
        }
        return validated(core, role);
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof CosmosDBOptions that && values.equals(that.values);
    }

    @Override
    public int hashCode() {
        return values.hashCode();
    }

    @Override
    public String toString() {
        return "CosmosDBOptions" + OptionText.of(values);
    }
}
