package io.cosmosflink.connector.cosmosdb.table;

import io.cosmosflink.core.CatalogRequest;
import io.cosmosflink.core.CatalogRequest.Inference;
import io.cosmosflink.core.ContainerInfo;
import io.cosmosflink.core.Core;
import io.cosmosflink.core.CosmosException;
import io.cosmosflink.core.CosmosException.Kind;
import java.time.Duration;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.flink.annotation.Internal;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.catalog.AbstractCatalog;
import org.apache.flink.table.catalog.CatalogBaseTable;
import org.apache.flink.table.catalog.CatalogDatabase;
import org.apache.flink.table.catalog.CatalogFunction;
import org.apache.flink.table.catalog.CatalogPartition;
import org.apache.flink.table.catalog.CatalogPartitionSpec;
import org.apache.flink.table.catalog.CatalogTable;
import org.apache.flink.table.catalog.ObjectPath;
import org.apache.flink.table.catalog.ResolvedCatalogTable;
import org.apache.flink.table.catalog.exceptions.CatalogException;
import org.apache.flink.table.catalog.exceptions.DatabaseAlreadyExistException;
import org.apache.flink.table.catalog.exceptions.DatabaseNotEmptyException;
import org.apache.flink.table.catalog.exceptions.DatabaseNotExistException;
import org.apache.flink.table.catalog.exceptions.FunctionNotExistException;
import org.apache.flink.table.catalog.exceptions.PartitionNotExistException;
import org.apache.flink.table.catalog.exceptions.TableAlreadyExistException;
import org.apache.flink.table.catalog.exceptions.TableNotExistException;
import org.apache.flink.table.catalog.exceptions.TableNotPartitionedException;
import org.apache.flink.table.catalog.stats.CatalogColumnStatistics;
import org.apache.flink.table.catalog.stats.CatalogTableStatistics;
import org.apache.flink.table.expressions.Expression;
import org.apache.flink.table.factories.FactoryUtil;

/**
 * The databases of an account, with their containers as tables.
 *
 * <p>The service keeps no columns: they are made of a sample of documents. What {@code CREATE TABLE} declares is remembered as long as this catalog
 * is there and the container the same.
 */
@Internal
public final class CosmosDBCatalog extends AbstractCatalog {
    private final Settings settings;
    private final Core.Provider core;
    /** What is known for a while, with or without columns. */
    private final Map<ObjectPath, Known> known = new ConcurrentHashMap<>();
    /** Those with columns, for which documents were read: nothing without them takes their place. */
    private final Map<ObjectPath, Known> inferred = new ConcurrentHashMap<>();
    /** What was created here, by its columns. */
    private final Map<ObjectPath, Declared> declared = new ConcurrentHashMap<>();

    /**
     * @param account options of the account, by their names in a table; none of them secret
     * @param core the same, by their names in the core
     * @param cacheTtl how long columns count as known
     */
    record Settings(Map<String, String> account, Map<String, String> core, Inference inference, Duration cacheTtl) {}

    /** @param since in nanoseconds of the process */
    private record Known(ContainerInfo container, long since) {}

    /** The service keeps nothing of a database but its name. */
    private record Database(Map<String, String> properties) implements CatalogDatabase {
        @Override
        public Map<String, String> getProperties() {
            return properties;
        }

        @Override
        public String getComment() {
            return "";
        }

        @Override
        public CatalogDatabase copy() {
            return this;
        }

        @Override
        public CatalogDatabase copy(Map<String, String> others) {
            return new Database(Map.copyOf(others));
        }

        @Override
        public Optional<String> getDescription() {
            return Optional.empty();
        }

        @Override
        public Optional<String> getDetailedDescription() {
            return Optional.empty();
        }
    }

    /** @param rid of its container; empty for one that was created and has not been seen since */
    private record Declared(String rid, CatalogTable table) {
        /** Whether it is of this container. */
        boolean isOf(ContainerInfo container) {
            return rid.isEmpty() || rid.equals(container.rid());
        }
    }

    CosmosDBCatalog(String name, String defaultDatabase, Settings settings, Core.Provider core) {
        super(name, defaultDatabase);
        this.settings = settings;
        this.core = core;
    }

    // Requests.

    private List<String> administer(CatalogRequest request) {
        return core.get().administer(settings.core(), request);
    }

    private CatalogException failed(String what, CosmosException e) {
        // With the names that options have in the statement.
        return new CatalogException(
                "catalog '" + getName() + "' " + what + ": "
                        + TableOptions.refused(e).getMessage(),
                e);
    }

    private static boolean is(CosmosException e, Kind kind) {
        return e.kind() == kind;
    }

    /** The container of a table, with columns where {@code columns} asks for them; empty where there is none. */
    private Optional<ContainerInfo> find(ObjectPath path, boolean columns) {
        Known found = (columns ? inferred : known).get(path);
        boolean fresh = found != null
                && System.nanoTime() - found.since() < settings.cacheTtl().toNanos();
        if (fresh) {
            return Optional.of(found.container());
        }
        Inference inference = columns ? settings.inference() : Inference.NONE;
        try {
            ContainerInfo container = core.get()
                    .describe(
                            settings.core(),
                            CatalogRequest.describe(path.getDatabaseName(), path.getObjectName(), inference));
            Known now = new Known(container, System.nanoTime());
            known.put(path, now);
            if (columns) {
                inferred.put(path, now);
            } else {
                // Those of a container that was there before are gone with it.
                inferred.computeIfPresent(
                        path, (p, before) -> before.container().rid().equals(container.rid()) ? before : null);
            }
            return Optional.of(container);
        } catch (CosmosException e) {
            known.remove(path);
            inferred.remove(path);
            if (is(e, Kind.NOT_FOUND)) {
                return Optional.empty();
            }
            throw failed("cannot look up the container of table " + path.getFullName(), e);
        }
    }

    /** The container of a table that must be there, without its columns. */
    private ContainerInfo require(ObjectPath path) throws TableNotExistException {
        return find(path, false).orElseThrow(() -> new TableNotExistException(getName(), path));
    }

    private void forget(ObjectPath path) {
        known.remove(path);
        inferred.remove(path);
        declared.remove(path);
    }

    // The catalog.

    @Override
    public void open() {
        try {
            administer(CatalogRequest.connect());
        } catch (CosmosException e) {
            throw failed("cannot reach its account", e);
        }
    }

    @Override
    public void close() {
        known.clear();
        inferred.clear();
        declared.clear();
    }

    // Databases.

    @Override
    public List<String> listDatabases() {
        try {
            return administer(CatalogRequest.databases());
        } catch (CosmosException e) {
            throw failed("cannot list its databases", e);
        }
    }

    @Override
    public CatalogDatabase getDatabase(String database) throws DatabaseNotExistException {
        if (!databaseExists(database)) {
            throw new DatabaseNotExistException(getName(), database);
        }
        return new Database(Map.of());
    }

    @Override
    public boolean databaseExists(String database) {
        try {
            administer(CatalogRequest.database(database));
            return true;
        } catch (CosmosException e) {
            if (is(e, Kind.NOT_FOUND)) {
                return false;
            }
            throw failed("cannot look up database '" + database + "'", e);
        }
    }

    @Override
    public void createDatabase(String name, CatalogDatabase database, boolean ignoreIfExists)
            throws DatabaseAlreadyExistException {
        Map<String, String> properties = new TreeMap<>(database.getProperties());
        Configuration options = Configuration.fromMap(properties);
        properties.remove(CosmosDBCatalogOptions.THROUGHPUT.key());
        properties.remove(CosmosDBCatalogOptions.AUTOSCALE_THROUGHPUT.key());
        if (!properties.isEmpty()) {
            throw new CatalogException(
                    "catalog '" + getName() + "' cannot create database '" + name + "': the properties '"
                            + String.join("', '", properties.keySet()) + "' are not known; a database has "
                            + CosmosDBCatalogOptions.THROUGHPUT.key() + " or "
                            + CosmosDBCatalogOptions.AUTOSCALE_THROUGHPUT.key() + ", which its containers share");
        }
        try {
            administer(CatalogRequest.createDatabase(name, NewContainer.throughput(options)));
        } catch (CosmosException e) {
            if (!is(e, Kind.CONFLICT)) {
                throw failed("cannot create database '" + name + "'", e);
            }
            if (!ignoreIfExists) {
                throw new DatabaseAlreadyExistException(getName(), name, e);
            }
        }
    }

    @Override
    public void dropDatabase(String name, boolean ignoreIfNotExists, boolean cascade)
            throws DatabaseNotExistException, DatabaseNotEmptyException {
        try {
            if (!cascade && !administer(CatalogRequest.containers(name)).isEmpty()) {
                throw new DatabaseNotEmptyException(getName(), name);
            }
            administer(CatalogRequest.dropDatabase(name));
            known.keySet().removeIf(path -> path.getDatabaseName().equals(name));
            inferred.keySet().removeIf(path -> path.getDatabaseName().equals(name));
            declared.keySet().removeIf(path -> path.getDatabaseName().equals(name));
        } catch (CosmosException e) {
            if (!is(e, Kind.NOT_FOUND)) {
                throw failed("cannot drop database '" + name + "'", e);
            }
            if (!ignoreIfNotExists) {
                throw new DatabaseNotExistException(getName(), name, e);
            }
        }
    }

    @Override
    public void alterDatabase(String name, CatalogDatabase database, boolean ignoreIfNotExists) {
        throw unsupported("a database has nothing that ALTER DATABASE could change");
    }

    // Tables.

    @Override
    public List<String> listTables(String database) throws DatabaseNotExistException {
        try {
            return administer(CatalogRequest.containers(database));
        } catch (CosmosException e) {
            if (is(e, Kind.NOT_FOUND)) {
                throw new DatabaseNotExistException(getName(), database, e);
            }
            throw failed("cannot list the containers of database '" + database + "'", e);
        }
    }

    @Override
    public List<String> listViews(String database) throws DatabaseNotExistException {
        getDatabase(database);
        return List.of();
    }

    @Override
    public CatalogBaseTable getTable(ObjectPath path) throws TableNotExistException {
        Declared own = declared.get(path);
        if (own != null) {
            ContainerInfo seen = require(path);
            if (own.isOf(seen)) {
                declared.replace(path, own, new Declared(seen.rid(), own.table()));
                return own.table();
            }
            // It is another container now.
            forget(path);
        }
        ContainerInfo container = find(path, true).orElseThrow(() -> new TableNotExistException(getName(), path));
        return InferredTable.of(path, container, settings.account());
    }

    @Override
    public boolean tableExists(ObjectPath path) {
        return find(path, false).isPresent();
    }

    @Override
    public void createTable(ObjectPath path, CatalogBaseTable table, boolean ignoreIfExists)
            throws TableAlreadyExistException, DatabaseNotExistException {
        if (!(table instanceof ResolvedCatalogTable resolved)) {
            throw unsupported("it has containers and nothing else: " + path.getFullName() + " is a "
                    + table.getTableKind().name().toLowerCase(Locale.ROOT).replace('_', ' ')
                    + ", which belongs into another catalog, or is created as a temporary one");
        }
        String connector = table.getOptions().get(FactoryUtil.CONNECTOR.key());
        if (connector != null && !connector.equals(CosmosDBDynamicTableFactory.IDENTIFIER)) {
            throw new CatalogException("catalog '" + getName() + "' has containers of Cosmos DB and no other tables: "
                    + path.getFullName() + " is one of the connector '" + connector
                    + "'; create it as a temporary table, or in another catalog");
        }
        // Whether it is there is asked anew.
        known.remove(path);
        Optional<ContainerInfo> there = find(path, false);
        if (there.isPresent()) {
            if (!ignoreIfExists) {
                throw new TableAlreadyExistException(getName(), path);
            }
            adopt(path, resolved, there.get());
            return;
        }
        NewContainer container = wanted(path, resolved);
        forget(path);
        List<String> rid;
        try {
            rid = administer(CatalogRequest.createContainer(
                    path.getDatabaseName(),
                    path.getObjectName(),
                    container.keys(),
                    container.defaultTtl(),
                    container.throughput()));
        } catch (CosmosException e) {
            if (is(e, Kind.NOT_FOUND)) {
                throw new DatabaseNotExistException(getName(), path.getDatabaseName(), e);
            }
            if (!is(e, Kind.CONFLICT)) {
                throw failed("cannot create the container of table " + path.getFullName(), e);
            }
            if (!ignoreIfExists) {
                throw new TableAlreadyExistException(getName(), path, e);
            }
            // Somebody else was faster.
            adopt(
                    path,
                    resolved,
                    find(path, false)
                            .orElseThrow(() -> failed("cannot see the container of table " + path.getFullName(), e)));
            return;
        }
        // It is created, and maybe nowhere to be seen yet: what was declared must not depend on that.
        declared.put(path, new Declared(rid.isEmpty() ? "" : rid.get(0), container.table()));
    }

    private NewContainer wanted(ObjectPath path, ResolvedCatalogTable table) {
        try {
            return NewContainer.of(path, table, settings.account());
        } catch (ValidationException e) {
            throw new CatalogException(
                    "catalog '" + getName() + "' cannot create table " + path.getFullName() + ": " + e.getMessage(), e);
        }
    }

    /**
     * Remembers what {@code CREATE TABLE IF NOT EXISTS} declares of a container that is there: nobody else knows it, and rows would be read and written in
     * another way than the statement says. What this session has declared before stays, as in any catalog.
     */
    private void adopt(ObjectPath path, ResolvedCatalogTable table, ContainerInfo there) {
        Declared own = declared.get(path);
        if (own != null && own.isOf(there)) {
            return;
        }
        NewContainer container = wanted(path, table);
        List<String> differences = container.differences(there);
        if (!differences.isEmpty()) {
            throw new CatalogException("catalog '" + getName() + "' cannot take table " + path.getFullName()
                    + " as it is declared, since its container is there and another one: "
                    + String.join("; ", differences)
                    + ". Declare what the container has, leave the statement out, or drop the table first");
        }
        declared.put(path, new Declared(there.rid(), container.table()));
    }

    @Override
    public void dropTable(ObjectPath path, boolean ignoreIfNotExists) throws TableNotExistException {
        forget(path);
        try {
            administer(CatalogRequest.dropContainer(path.getDatabaseName(), path.getObjectName()));
        } catch (CosmosException e) {
            if (!is(e, Kind.NOT_FOUND)) {
                throw failed("cannot drop the container of table " + path.getFullName(), e);
            }
            if (!ignoreIfNotExists) {
                throw new TableNotExistException(getName(), path, e);
            }
        }
    }

    @Override
    public void renameTable(ObjectPath path, String newName, boolean ignoreIfNotExists) {
        throw unsupported(
                "a container cannot be renamed; create another one and copy the documents with INSERT INTO .. SELECT");
    }

    @Override
    public void alterTable(ObjectPath path, CatalogBaseTable table, boolean ignoreIfNotExists) {
        throw unsupported("the columns of table " + path.getFullName()
                + " are those of its documents; declare others, or other options, with CREATE TEMPORARY TABLE .. LIKE, or give options with"
                + " /*+ OPTIONS(..) */");
    }

    private UnsupportedOperationException unsupported(String why) {
        return new UnsupportedOperationException("catalog '" + getName() + "': " + why);
    }

    // Statistics.

    @Override
    public CatalogTableStatistics getTableStatistics(ObjectPath path) throws TableNotExistException {
        ContainerInfo container = require(path);
        return container.documents() < 0
                ? CatalogTableStatistics.UNKNOWN
                : new CatalogTableStatistics(container.documents(), 0, container.bytes(), container.bytes());
    }

    @Override
    public CatalogColumnStatistics getTableColumnStatistics(ObjectPath path) throws TableNotExistException {
        require(path);
        return CatalogColumnStatistics.UNKNOWN;
    }

    @Override
    public void alterTableStatistics(ObjectPath path, CatalogTableStatistics statistics, boolean ignoreIfNotExists) {
        throw unsupported("the service counts the documents itself");
    }

    @Override
    public void alterTableColumnStatistics(
            ObjectPath path, CatalogColumnStatistics statistics, boolean ignoreIfNotExists) {
        throw unsupported("it keeps no statistics of columns");
    }

    // What there is not: partitions in Flink's sense.

    @Override
    public List<CatalogPartitionSpec> listPartitions(ObjectPath path)
            throws TableNotExistException, TableNotPartitionedException {
        require(path);
        throw new TableNotPartitionedException(getName(), path);
    }

    @Override
    public List<CatalogPartitionSpec> listPartitions(ObjectPath path, CatalogPartitionSpec partition)
            throws TableNotExistException, TableNotPartitionedException {
        return listPartitions(path);
    }

    @Override
    public List<CatalogPartitionSpec> listPartitionsByFilter(ObjectPath path, List<Expression> filters)
            throws TableNotExistException, TableNotPartitionedException {
        return listPartitions(path);
    }

    @Override
    public CatalogPartition getPartition(ObjectPath path, CatalogPartitionSpec partition)
            throws PartitionNotExistException {
        throw new PartitionNotExistException(getName(), path, partition);
    }

    @Override
    public boolean partitionExists(ObjectPath path, CatalogPartitionSpec partition) {
        return false;
    }

    @Override
    public void createPartition(
            ObjectPath path, CatalogPartitionSpec partition, CatalogPartition content, boolean ignoreIfExists)
            throws TableNotExistException, TableNotPartitionedException {
        require(path);
        throw new TableNotPartitionedException(getName(), path);
    }

    @Override
    public void dropPartition(ObjectPath path, CatalogPartitionSpec partition, boolean ignoreIfNotExists)
            throws PartitionNotExistException {
        if (!ignoreIfNotExists) {
            throw new PartitionNotExistException(getName(), path, partition);
        }
    }

    @Override
    public void alterPartition(
            ObjectPath path, CatalogPartitionSpec partition, CatalogPartition content, boolean ignoreIfNotExists)
            throws PartitionNotExistException {
        dropPartition(path, partition, ignoreIfNotExists);
    }

    @Override
    public CatalogTableStatistics getPartitionStatistics(ObjectPath path, CatalogPartitionSpec partition)
            throws PartitionNotExistException {
        throw new PartitionNotExistException(getName(), path, partition);
    }

    @Override
    public CatalogColumnStatistics getPartitionColumnStatistics(ObjectPath path, CatalogPartitionSpec partition)
            throws PartitionNotExistException {
        throw new PartitionNotExistException(getName(), path, partition);
    }

    @Override
    public void alterPartitionStatistics(
            ObjectPath path,
            CatalogPartitionSpec partition,
            CatalogTableStatistics statistics,
            boolean ignoreIfNotExists)
            throws PartitionNotExistException {
        dropPartition(path, partition, ignoreIfNotExists);
    }

    @Override
    public void alterPartitionColumnStatistics(
            ObjectPath path,
            CatalogPartitionSpec partition,
            CatalogColumnStatistics statistics,
            boolean ignoreIfNotExists)
            throws PartitionNotExistException {
        dropPartition(path, partition, ignoreIfNotExists);
    }

    // What there is not: functions.

    @Override
    public List<String> listFunctions(String database) throws DatabaseNotExistException {
        getDatabase(database);
        return List.of();
    }

    @Override
    public CatalogFunction getFunction(ObjectPath path) throws FunctionNotExistException {
        throw new FunctionNotExistException(getName(), path);
    }

    @Override
    public boolean functionExists(ObjectPath path) {
        return false;
    }

    @Override
    public void createFunction(ObjectPath path, CatalogFunction function, boolean ignoreIfExists) {
        throw unsupported("it keeps no functions; CREATE TEMPORARY FUNCTION makes one for the session");
    }

    @Override
    public void alterFunction(ObjectPath path, CatalogFunction function, boolean ignoreIfNotExists)
            throws FunctionNotExistException {
        dropFunction(path, ignoreIfNotExists);
    }

    @Override
    public void dropFunction(ObjectPath path, boolean ignoreIfNotExists) throws FunctionNotExistException {
        if (!ignoreIfNotExists) {
            throw new FunctionNotExistException(getName(), path);
        }
    }
}
