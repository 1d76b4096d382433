package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.core.CatalogRequest.Throughput;
import io.cosmosflink.core.ContainerInfo;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.catalog.CatalogTable;
import org.apache.flink.table.catalog.Column;
import org.apache.flink.table.catalog.ObjectPath;
import org.apache.flink.table.catalog.ResolvedCatalogTable;
import org.apache.flink.table.catalog.ResolvedSchema;
import org.apache.flink.table.catalog.UniqueConstraint;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.LogicalTypeFamily;
import org.apache.flink.table.types.logical.LogicalTypeRoot;
import org.apache.flink.util.TimeUtils;

/**
 * The container of a table that is created in a catalog.
 *
 * @param keys paths of its partition key, as the service has them
 * @param ordered whether the statement says in which order
 * @param defaultTtl seconds; -1: documents live on that do not say otherwise; 0: all do
 * @param ttlGiven whether the statement says so
 * @param table with the columns that were declared, and the options that are the table's own
 */
record NewContainer(
        List<String> keys,
        boolean ordered,
        long defaultTtl,
        boolean ttlGiven,
        Throughput throughput,
        CatalogTable table) {
    /** Parts that a partition key has at most. */
    private static final int MOST_KEYS = 3;

    private static final List<String> ID = List.of("id");
    private static final String PATHS = CosmosDBCatalogOptions.PARTITION_KEY_PATHS.key();

    /** What is said of the container and not of the table. */
    private static final Set<ConfigOption<?>> OPTIONS = Set.of(
            CosmosDBCatalogOptions.PARTITION_KEY_PATHS,
            CosmosDBCatalogOptions.THROUGHPUT,
            CosmosDBCatalogOptions.AUTOSCALE_THROUGHPUT,
            CosmosDBCatalogOptions.DEFAULT_TTL);

    /** @throws ValidationException for what the container cannot be made of, or the table would not be able to do */
    static NewContainer of(ObjectPath path, ResolvedCatalogTable table, Map<String, String> account) {
        if (table.isPartitioned() || table.getDistribution().isPresent()) {
            throw new ValidationException(
                    "the partitions of a container are the service's own; leave PARTITIONED BY and DISTRIBUTED out, and name what"
                            + " the documents are distributed by as a part of the primary key or in '" + PATHS + "'");
        }
        Map<String, String> given = table.getOptions();
        check(given, account);
        Configuration options = Configuration.fromMap(given);
        Map<String, String> own = new TreeMap<>(given);
        OPTIONS.forEach(option -> own.remove(option.key()));
        // Where LIKE has copied them, they are those of another container.
        own.putAll(InferredTable.options(path, account));
        CatalogTable declared = CatalogTable.newBuilder()
                .schema(table.getUnresolvedSchema())
                .comment(table.getComment())
                .options(own)
                .build();
        return new NewContainer(
                keys(table.getResolvedSchema(), own, options),
                options.contains(CosmosDBCatalogOptions.PARTITION_KEY_PATHS),
                ttl(options),
                options.contains(CosmosDBCatalogOptions.DEFAULT_TTL),
                throughput(options),
                declared);
    }

    /** What was declared and is not so in a container that is there. Of its throughput nobody knows. */
    List<String> differences(ContainerInfo there) {
        List<String> differences = new ArrayList<>();
        List<List<String>> declared = keys.stream().map(NewContainer::names).toList();
        // A primary key has its columns in any order; the paths have theirs.
        boolean isTheirs =
                ordered ? declared.equals(there.keys()) : new HashSet<>(declared).equals(new HashSet<>(there.keys()));
        if (!isTheirs) {
            List<String> theirs =
                    there.keys().stream().map(ColumnPaths::pointer).toList();
            differences.add("its partition key is " + String.join(", ", theirs) + ", and the one that is declared "
                    + String.join(", ", keys));
        }
        if (ttlGiven && defaultTtl != there.defaultTtl()) {
            differences.add("its '" + CosmosDBCatalogOptions.DEFAULT_TTL.key() + "' is " + ttl(there.defaultTtl())
                    + ", and the one that is declared " + ttl(defaultTtl));
        }
        return differences;
    }

    private static String ttl(long seconds) {
        return seconds == 0 ? "off" : seconds < 0 ? "on" : seconds + " s";
    }

    private static void check(Map<String, String> given, Map<String, String> account) {
        // LIKE copies those of the catalog.
        Set<String> others = new TreeSet<>();
        TableOptions.account()
                .map(ConfigOption::key)
                .filter(key -> given.containsKey(key) && !given.get(key).equals(account.get(key)))
                .forEach(others::add);
        if (!others.isEmpty()) {
            throw new ValidationException("the table has options of an account ('" + String.join("', '", others)
                    + "'), and the account is that of the catalog; leave them out, or create a temporary table");
        }
        CosmosDBDynamicTableFactory factory = new CosmosDBDynamicTableFactory();
        Set<String> known = new HashSet<>(Set.of(FactoryUtil.CONNECTOR.key()));
        Stream.of(factory.requiredOptions(), factory.optionalOptions(), OPTIONS)
                .flatMap(Set::stream)
                .map(ConfigOption::key)
                .forEach(known::add);
        List<String> unknown = given.keySet().stream()
                .filter(key -> !known.contains(key) && !key.startsWith(ColumnPaths.PREFIX))
                .sorted()
                .toList();
        if (!unknown.isEmpty()) {
            throw new ValidationException("the options '" + String.join("', '", unknown)
                    + "' are not known; a table has those of the connector, and "
                    + String.join(
                            ", ",
                            OPTIONS.stream().map(ConfigOption::key).sorted().toList()));
        }
    }

    private static List<String> keys(ResolvedSchema schema, Map<String, String> own, Configuration options) {
        List<Column> columns =
                schema.getColumns().stream().filter(Column::isPhysical).toList();
        List<String> names = columns.stream().map(Column::getName).toList();
        List<List<String>> paths = ColumnPaths.of(names, own);
        List<String> primaryKey =
                schema.getPrimaryKey().map(UniqueConstraint::getColumns).orElse(List.of());
        List<List<String>> keyPaths =
                primaryKey.stream().map(name -> paths.get(names.indexOf(name))).toList();
        boolean ownId = options.getOptional(CosmosDBConnectorOptions.SINK_ID).isPresent();
        List<String> given = options.getOptional(CosmosDBCatalogOptions.PARTITION_KEY_PATHS)
                .map(NewContainer::parse)
                .orElse(null);
        if (given != null) {
            if (!primaryKey.isEmpty() && !ownId) {
                checkKey(primaryKey, keyPaths, given);
            }
            return given;
        }
        if (primaryKey.isEmpty() || ownId) {
            throw new ValidationException("a container has a partition key, and the table does not say which: "
                    + (ownId ? "its id is made of columns" : "it has no primary key") + "; set '" + PATHS
                    + "', such as to '/customerId'");
        }
        if (!keyPaths.contains(ID)) {
            throw new ValidationException("the primary key (" + String.join(", ", primaryKey)
                    + ") lacks the id, without which nobody knows which document a row is; it must be the id and all columns of the"
                    + " container's partition key");
        }
        List<String> keys = new ArrayList<>();
        for (int i = 0; i < primaryKey.size(); i++) {
            if (!keyPaths.get(i).equals(ID)) {
                Column column = columns.get(names.indexOf(primaryKey.get(i)));
                checkType(column.getName(), column.getDataType().getLogicalType());
                keys.add(path(column.getName(), keyPaths.get(i)));
            }
        }
        if (keys.size() > MOST_KEYS) {
            throw new ValidationException(
                    "the primary key has " + keys.size() + " columns beside the id (" + String.join(", ", primaryKey)
                            + "), and a partition key at most " + MOST_KEYS + " parts; make fewer of them the key");
        }
        return keys.isEmpty() ? List.of("/id") : keys;
    }

    private static void checkKey(List<String> primaryKey, List<List<String>> keyPaths, List<String> given) {
        Set<List<String>> expected = new HashSet<>(Set.of(ID));
        given.forEach(path -> expected.add(names(path)));
        if (!expected.equals(new HashSet<>(keyPaths))) {
            throw new ValidationException(
                    "the primary key is (" + String.join(", ", primaryKey) + "), and '" + PATHS + "' is '"
                            + String.join(",", given)
                            + "'; the primary key must be the id and all columns of the partition key, since these are what a document is known by");
        }
    }

    private static void checkType(String column, LogicalType type) {
        if (!type.is(LogicalTypeFamily.CHARACTER_STRING)
                && !type.is(LogicalTypeFamily.NUMERIC)
                && !type.is(LogicalTypeRoot.BOOLEAN)) {
            throw new ValidationException("column '" + column + "' of the primary key is of type "
                    + type.asSummaryString() + "; what a partition key is made of is a string, a number or a boolean");
        }
    }

    private static List<String> parse(String paths) {
        List<String> parsed =
                Arrays.stream(paths.split(",", -1)).map(String::trim).toList();
        for (String path : parsed) {
            if (!path.startsWith("/") || names(path).stream().anyMatch(String::isBlank)) {
                throw new ValidationException(
                        "'" + PATHS + "' is '" + paths
                                + "'; a partition key has paths such as /customerId or /address/city, several with a comma between them");
            }
        }
        if (parsed.size() > MOST_KEYS || new HashSet<>(parsed).size() < parsed.size()) {
            throw new ValidationException(
                    "'" + PATHS + "' is '" + paths + "'; a partition key has 1 to " + MOST_KEYS + " different paths");
        }
        return parsed;
    }

    /** The names on the way of a path of the service. */
    private static List<String> names(String path) {
        return Arrays.stream(path.substring(1).split("/", -1))
                .map(name -> name.length() > 1 && name.startsWith("\"") && name.endsWith("\"")
                        ? name.substring(1, name.length() - 1)
                        : name)
                .toList();
    }

    /** As the service writes it. */
    private static String path(String column, List<String> names) {
        StringBuilder path = new StringBuilder();
        for (String name : names) {
            if (name.isBlank() || name.contains("/") || name.contains("\"") || name.contains("\\")) {
                throw new ValidationException(
                        "column '" + column + "' of the primary key is at " + ColumnPaths.pointer(names)
                                + ", which is no path of a partition key: a name in it is blank or has one of / \\ \"");
            }
            path.append('/').append(name.matches("\\w+") ? name : "\"" + name + "\"");
        }
        if (path.isEmpty()) {
            throw new ValidationException("column '" + column
                    + "' of the primary key is the whole document, and a partition key a field of it");
        }
        return path.toString();
    }

    /** Of a container or a database that is created. */
    static Throughput throughput(Configuration options) {
        int manual = units(options, CosmosDBCatalogOptions.THROUGHPUT);
        int autoscale = units(options, CosmosDBCatalogOptions.AUTOSCALE_THROUGHPUT);
        if (manual > 0 && autoscale > 0) {
            throw new ValidationException("'" + CosmosDBCatalogOptions.THROUGHPUT.key() + "' and '"
                    + CosmosDBCatalogOptions.AUTOSCALE_THROUGHPUT.key() + "' are both set; keep one");
        }
        return new Throughput(manual, autoscale);
    }

    private static int units(Configuration options, ConfigOption<Integer> option) {
        int units = options.getOptional(option).orElse(0);
        if (units < 0 || units == 0 && options.contains(option)) {
            throw new ValidationException(
                    "'" + option.key() + "' is " + units + "; it is a number of request units per second, such as 400");
        }
        return units;
    }

    private static long ttl(Configuration options) {
        String text = options.get(CosmosDBCatalogOptions.DEFAULT_TTL).trim();
        switch (text) {
            case "off":
                return 0;
            case "on":
                return -1;
            default:
        }
        Duration ttl;
        try {
            ttl = TimeUtils.parseDuration(text);
        } catch (IllegalArgumentException e) {
            throw new ValidationException(wrongTtl(text), e);
        }
        if (ttl.toSeconds() < 1 || ttl.toSeconds() > Integer.MAX_VALUE) {
            throw new ValidationException(wrongTtl(text));
        }
        return ttl.toSeconds();
    }

    private static String wrongTtl(String text) {
        return "'" + CosmosDBCatalogOptions.DEFAULT_TTL.key() + "' is '" + text
                + "'; it is a duration of whole seconds such as '30 d', 'on' for documents that say themselves when they expire, or 'off'";
    }
}
