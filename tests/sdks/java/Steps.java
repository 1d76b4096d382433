// The Java SDK in gateway mode against an account, step by step. See ../README.md for the variables it takes.

import com.azure.cosmos.CosmosClient;
import com.azure.cosmos.CosmosClientBuilder;
import com.azure.cosmos.CosmosContainer;
import com.azure.cosmos.CosmosDatabase;
import com.azure.cosmos.CosmosException;
import com.azure.cosmos.models.CosmosBatch;
import com.azure.cosmos.models.CosmosBatchPatchItemRequestOptions;
import com.azure.cosmos.models.CosmosBatchResponse;
import com.azure.cosmos.models.CosmosBulkItemRequestOptions;
import com.azure.cosmos.models.CosmosBulkOperationResponse;
import com.azure.cosmos.models.CosmosBulkOperations;
import com.azure.cosmos.models.CosmosBulkPatchItemRequestOptions;
import com.azure.cosmos.models.CosmosChangeFeedRequestOptions;
import com.azure.cosmos.models.CosmosContainerProperties;
import com.azure.cosmos.models.CosmosItemIdentity;
import com.azure.cosmos.models.CosmosItemOperation;
import com.azure.cosmos.models.CosmosItemRequestOptions;
import com.azure.cosmos.models.CosmosItemResponse;
import com.azure.cosmos.models.CosmosPatchItemRequestOptions;
import com.azure.cosmos.models.CosmosPatchOperations;
import com.azure.cosmos.models.CosmosQueryRequestOptions;
import com.azure.cosmos.models.FeedRange;
import com.azure.cosmos.models.FeedResponse;
import com.azure.cosmos.models.PartitionKey;
import com.azure.cosmos.models.PartitionKeyBuilder;
import com.azure.cosmos.models.PartitionKeyDefinition;
import com.azure.cosmos.models.PartitionKeyDefinitionVersion;
import com.azure.cosmos.models.PartitionKind;
import com.azure.cosmos.models.SqlParameter;
import com.azure.cosmos.models.SqlQuerySpec;
import com.azure.cosmos.models.ThroughputProperties;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.Predicate;
import java.util.stream.Collectors;

public final class Steps {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Set<String> SYSTEM = Set.of("_rid", "_self", "_etag", "_attachments", "_ts", "_lsn");
    private static final String IS_ITEM = "STARTSWITH(c.id, 'i-')";

    private static final List<String> failures = new ArrayList<>();
    private static int number;
    private static int passed;

    /** What each container must hold at the end, by container and by key and id. */
    private static final Map<String, ObjectNode> stored = new LinkedHashMap<>();

    private static final Map<String, String> containerOf = new LinkedHashMap<>();

    private static CosmosClient client;
    private static CosmosDatabase database;
    private static CosmosContainer orders;
    private static CosmosContainer tenants;

    private interface Body {
        void run() throws Exception;
    }

    private static void step(String name, Body body) {
        number++;
        try {
            body.run();
            passed++;
        } catch (Throwable error) {
            failures.add(number + " " + name);
            System.err.println("step " + number + ", " + name + ": " + error);
            for (StackTraceElement at : error.getStackTrace()) {
                if (at.getClassName().startsWith("Steps")) {
                    System.err.println("    at line " + at.getLineNumber());
                }
            }
        }
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    private static void same(Object found, Object expected) {
        check(Objects.equals(found, expected), "found " + found + ", expected " + expected);
    }

    /** Runs a call that must fail with this status. */
    private static void fails(int status, Body body) throws Exception {
        try {
            body.run();
        } catch (CosmosException error) {
            same(error.getStatusCode(), status);
            return;
        }
        throw new AssertionError("did not fail with " + status);
    }

    /** JSON with single quotes, to write documents in a line. */
    private static ObjectNode json(String text) throws Exception {
        return (ObjectNode) JSON.readTree(text.replace('\'', '"'));
    }

    private static ObjectNode bare(JsonNode document) {
        ObjectNode copy = document.deepCopy();
        copy.remove(SYSTEM);
        // Numbers compare by value, whatever their type is: 25.0 comes back as 25.
        try {
            return (ObjectNode) JSON.readTree(copy.toString().replaceAll("(\\d)\\.0([,}\\]])", "$1$2"));
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    private static List<ObjectNode> byId(Iterable<? extends JsonNode> documents) {
        List<ObjectNode> list = new ArrayList<>();
        documents.forEach(d -> list.add(bare(d)));
        list.sort(Comparator.comparing(d -> d.get("id").asText()));
        return list;
    }

    private static String place(String container, Object key, String id) {
        return container + " " + key + " " + id;
    }

    private static void store(String container, Object key, ObjectNode document) {
        String place = place(container, key, document.get("id").asText());
        stored.put(place, bare(document));
        containerOf.put(place, container);
    }

    private static void forget(String container, Object key, String id) {
        stored.remove(place(container, key, id));
    }

    private static List<ObjectNode> inOrders(Predicate<ObjectNode> wanted) {
        return stored.entrySet().stream()
                .filter(e -> containerOf.get(e.getKey()).equals("orders") && wanted.test(e.getValue()))
                .map(Map.Entry::getValue)
                .collect(Collectors.toList());
    }

    private static List<ObjectNode> items() {
        return inOrders(d -> d.get("id").asText().startsWith("i-"));
    }

    private static PartitionKey key(String value) {
        return new PartitionKey(value);
    }

    private static PartitionKey levels(String... values) {
        PartitionKeyBuilder builder = new PartitionKeyBuilder();
        for (String value : values) {
            if (value == null) {
                builder.addNullValue();
            } else {
                builder.add(value);
            }
        }
        return builder.build();
    }

    private static ObjectNode read(String id, PartitionKey key) {
        return bare(orders.readItem(id, key, ObjectNode.class).getItem());
    }

    private static <T> List<T> query(CosmosContainer container, String sql, CosmosQueryRequestOptions options, Class<T> type) {
        return container.queryItems(sql, options, type).stream().collect(Collectors.toList());
    }

    private static <T> List<T> query(String sql, Class<T> type) {
        return query(orders, sql, new CosmosQueryRequestOptions(), type);
    }

    private static ObjectNode item(int n) {
        ObjectNode item = JSON.createObjectNode();
        item.put("id", String.format("i-%03d", n)).put("pk", "k" + n % 7).put("n", n);
        item.put("group", n % 3 == 0 ? "three" : "other").put("half", n / 2.0);
        return bare(item);
    }

    private static ObjectNode with(ObjectNode document, String name, String value) {
        return document.deepCopy().put(name, value);
    }

    private static List<Integer> bulk(CosmosContainer container, List<CosmosItemOperation> operations, List<JsonNode> bodies) {
        Map<CosmosItemOperation, CosmosBulkOperationResponse<Object>> answers = new java.util.IdentityHashMap<>();
        for (CosmosBulkOperationResponse<Object> answer : container.executeBulkOperations(operations)) {
            answers.put(answer.getOperation(), answer);
        }
        List<Integer> statuses = new ArrayList<>();
        for (CosmosItemOperation operation : operations) {
            CosmosBulkOperationResponse<Object> answer = answers.get(operation);
            if (answer.getException() != null) {
                throw new IllegalStateException(answer.getException());
            }
            statuses.add(answer.getResponse().getStatusCode());
            bodies.add(answer.getResponse().getStatusCode() == 200 ? answer.getResponse().getItem(ObjectNode.class) : null);
        }
        return statuses;
    }

    private static List<Integer> statuses(CosmosBatchResponse response) {
        return response.getResults().stream().map(r -> r.getStatusCode()).collect(Collectors.toList());
    }

    /** The documents of a change feed up to where there is nothing new, and the last continuation. */
    private static String feed(CosmosChangeFeedRequestOptions options, List<ObjectNode> found) {
        String continuation = null;
        for (FeedResponse<ObjectNode> page : orders.queryChangeFeed(options, ObjectNode.class).iterableByPage()) {
            found.addAll(page.getResults());
            continuation = page.getContinuationToken();
        }
        return continuation;
    }

    public static void main(String[] args) throws Exception {
        String name = System.getenv("SDKS_DATABASE");
        client = new CosmosClientBuilder()
                .endpoint(System.getenv("COSMOS_ENDPOINT"))
                .key(System.getenv("COSMOS_KEY"))
                .gatewayMode()
                .contentResponseOnWriteEnabled(true)
                .buildClient();
        definitions(name);
        documents();
        many();
        queries();
        feeds();
        hierarchical();
        others(name);
        client.close();

        List<String> lines = new ArrayList<>();
        for (Map.Entry<String, ObjectNode> entry : stored.entrySet()) {
            ObjectNode line = JSON.createObjectNode().put("database", name).put("container", containerOf.get(entry.getKey()));
            line.set("document", entry.getValue());
            lines.add(line.toString());
        }
        Files.write(Path.of(System.getenv("SDKS_STORED")), lines);
        failures.forEach(failure -> System.out.println("failed: " + failure));
        System.out.println(passed + " passed, " + failures.size() + " failed");
        System.exit(failures.isEmpty() ? 0 : 1);
    }

    private static void definitions(String name) {
        step("create a database", () -> {
            same(client.createDatabase(name).getStatusCode(), 201);
            database = client.getDatabase(name);
        });
        step("the same database again is a conflict", () -> {
            fails(409, () -> client.createDatabase(name));
            client.createDatabaseIfNotExists(name);
            same(database.read().getProperties().getId(), name);
        });
        step("create containers", () -> {
            CosmosContainerProperties properties = new CosmosContainerProperties("orders", "/pk");
            same(database.createContainer(properties, ThroughputProperties.createManualThroughput(1000)).getStatusCode(), 201);
            orders = database.getContainer("orders");
            PartitionKeyDefinition definition = new PartitionKeyDefinition();
            definition.setPaths(List.of("/tenant", "/user"));
            definition.setKind(PartitionKind.MULTI_HASH);
            definition.setVersion(PartitionKeyDefinitionVersion.V2);
            database.createContainer(new CosmosContainerProperties("tenants", definition));
            tenants = database.getContainer("tenants");
        });
        step("the same container again is a conflict, its definition can be read", () -> {
            fails(409, () -> database.createContainer("orders", "/pk"));
            same(orders.read().getProperties().getPartitionKeyDefinition().getPaths(), List.of("/pk"));
            Set<String> names = database.readAllContainers().stream().map(CosmosContainerProperties::getId).collect(Collectors.toSet());
            same(names, Set.of("orders", "tenants"));
            String found = "SELECT * FROM c WHERE c.id = \"tenants\"";
            same(database.queryContainers(found).stream().map(CosmosContainerProperties::getId).collect(Collectors.toList()), List.of("tenants"));
        });
        step("a container that is not there is not found", () -> fails(404, () -> database.getContainer("nowhere").read()));
    }

    private static void documents() {
        PartitionKey a = key("a");
        step("create a document", () -> {
            ObjectNode document = json("{'id':'o-1','pk':'a','amount':10,'status':'new','tags':['x','y'],'nested':{'deep':{'n':1}}}");
            CosmosItemResponse<ObjectNode> answer = orders.createItem(document, a, new CosmosItemRequestOptions());
            same(answer.getStatusCode(), 201);
            same(bare(answer.getItem()), document);
            check(answer.getRequestCharge() > 0 && answer.getETag() != null, "no charge or ETag");
            store("orders", "a", document);
        });
        step("the same document again is a conflict", () -> fails(409, () -> orders.createItem(json("{'id':'o-1','pk':'a'}"))));
        step("read a document", () -> same(read("o-1", a), stored.get(place("orders", "a", "o-1"))));
        step("a document that is not there, or under another key, is not found", () -> {
            fails(404, () -> read("none", a));
            fails(404, () -> read("o-1", key("b")));
        });
        step("upsert writes and overwrites", () -> {
            same(orders.upsertItem(json("{'id':'o-2','pk':'a','amount':20,'status':'new'}")).getStatusCode(), 201);
            ObjectNode second = json("{'id':'o-2','pk':'a','amount':21,'added':null}");
            same(orders.upsertItem(second).getStatusCode(), 200);
            same(read("o-2", a), second);
            store("orders", "a", second);
        });
        step("replace takes the place of the whole document", () -> {
            ObjectNode document = json("{'id':'o-2','pk':'a','amount':22,'status':'paid'}");
            same(orders.replaceItem(document, "o-2", a, new CosmosItemRequestOptions()).getStatusCode(), 200);
            same(read("o-2", a), document);
            store("orders", "a", document);
        });
        step("replace what is not there is not found", () -> fails(404, () ->
                orders.replaceItem(json("{'id':'none','pk':'a'}"), "none", a, new CosmosItemRequestOptions())));
        step("replace with the ETag of what was read", () -> {
            String etag = orders.readItem("o-2", a, ObjectNode.class).getETag();
            ObjectNode document = json("{'id':'o-2','pk':'a','amount':23,'status':'paid'}");
            CosmosItemRequestOptions options = new CosmosItemRequestOptions().setIfMatchETag(etag);
            orders.replaceItem(document, "o-2", a, options);
            store("orders", "a", document);
            fails(412, () -> orders.replaceItem(document, "o-2", a, options));
        });
        step("delete and upsert with an old ETag are refused", () -> {
            CosmosItemRequestOptions old = new CosmosItemRequestOptions().setIfMatchETag("\"00000000-0000-0000-0000-000000000000\"");
            fails(412, () -> orders.deleteItem("o-2", a, old));
            fails(412, () -> orders.upsertItem(json("{'id':'o-2','pk':'a'}"), a, old));
        });
        step("read again only if it has changed", () -> {
            String etag = orders.readItem("o-2", a, ObjectNode.class).getETag();
            CosmosItemRequestOptions options = new CosmosItemRequestOptions().setIfNoneMatchETag(etag);
            int status;
            try {
                status = orders.readItem("o-2", a, options, ObjectNode.class).getStatusCode();
            } catch (CosmosException error) {
                status = error.getStatusCode();
            }
            same(status, 304);
        });
        step("delete, and again", () -> {
            orders.createItem(json("{'id':'o-3','pk':'a'}"));
            same(orders.deleteItem("o-3", a, new CosmosItemRequestOptions()).getStatusCode(), 204);
            fails(404, () -> orders.deleteItem("o-3", a, new CosmosItemRequestOptions()));
        });
        step("patch: add, set, replace, remove, increment, move", () -> {
            CosmosPatchOperations patch = CosmosPatchOperations.create()
                    .add("/tags/0", "w")
                    .set("/status", "open")
                    .replace("/nested/deep/n", 2)
                    .increment("/amount", 5)
                    .add("/old", true)
                    .remove("/old")
                    .move("/nested/deep", "/moved");
            ObjectNode document = json("{'id':'o-1','pk':'a','amount':15,'status':'open','tags':['w','x','y'],'nested':{},'moved':{'n':2}}");
            same(bare(orders.patchItem("o-1", a, patch, ObjectNode.class).getItem()), document);
            same(read("o-1", a), document);
            store("orders", "a", document);
        });
        step("patch with a condition that holds", () -> {
            CosmosPatchItemRequestOptions options = new CosmosPatchItemRequestOptions();
            options.setFilterPredicate("from c where c.amount = 15 and c.status = 'open'");
            orders.patchItem("o-1", a, CosmosPatchOperations.create().set("/status", "held"), options, ObjectNode.class);
            same(read("o-1", a).get("status").asText(), "held");
            stored.get(place("orders", "a", "o-1")).put("status", "held");
        });
        step("patch with a condition that does not hold is refused", () -> {
            CosmosPatchItemRequestOptions options = new CosmosPatchItemRequestOptions();
            options.setFilterPredicate("from c where c.amount > 100");
            CosmosPatchOperations patch = CosmosPatchOperations.create().set("/status", "wrong");
            fails(412, () -> orders.patchItem("o-1", a, patch, options, ObjectNode.class));
            same(read("o-1", a).get("status").asText(), "held");
        });
        step("patch of what is not there, and of a path that is not, is refused", () -> {
            fails(404, () -> orders.patchItem("none", a, CosmosPatchOperations.create().set("/a", 1), ObjectNode.class));
            fails(400, () -> orders.patchItem("o-1", a, CosmosPatchOperations.create().replace("/no/such/path", 1), ObjectNode.class));
        });
        step("a document beyond 2 MB is too large", () -> {
            ObjectNode large = json("{'id':'large','pk':'a'}").put("text", "x".repeat(2 * 1024 * 1024 + 1));
            fails(413, () -> orders.createItem(large));
        });
        step("ids with odd characters", () -> {
            for (String id : List.of("a b", "50%", "a+b", "ü-日本-😀", "it's", "say \"x\"", "a&b=c;d,e", "a@b:c|d", "~!$^()[]{}<>", "hash#", "question?")) {
                ObjectNode document = JSON.createObjectNode().put("id", id).put("pk", "odd").put("odd", true);
                orders.createItem(document);
                same(read(id, key("odd")), document);
                store("orders", "odd", document);
            }
        });
        step("keys: null, missing, empty, numbers, booleans, odd text", () -> {
            Object[] values = {null, "", 0, 1.5, -7, true, false, "ünï/code ? # \\ \" '"};
            for (int n = 0; n < values.length; n++) {
                ObjectNode document = JSON.createObjectNode().put("id", "key-" + n);
                document.set("pk", JSON.valueToTree(values[n]));
                orders.createItem(document);
                PartitionKey key = new PartitionKey(values[n]);
                same(read("key-" + n, key), bare(document));
                store("orders", key, document);
            }
            ObjectNode missing = json("{'id':'key-missing','other':1}");
            orders.createItem(missing, PartitionKey.NONE, new CosmosItemRequestOptions());
            same(read("key-missing", PartitionKey.NONE), missing);
            store("orders", "missing", missing);
            fails(404, () -> read("key-missing", new PartitionKey(null)));
        });
        step("numbers, text and depth come back as they were", () -> {
            ObjectNode document = json("{'id':'values','pk':'v','big':9007199254740991,'small':-0.000123,'exponent':1.5e300,'zero':0,"
                    + "'nothing':null,'list':[1,'2',[3,[4]],{}],'empty':{},'none':[],'truth':true}");
            document.put("text", "tab\tline\nü\u0000\u2028😀");
            orders.createItem(document);
            same(read("values", key("v")), bare(document));
            store("orders", "v", document);
        });
        step("without content in answers", () -> {
            ObjectNode document = json("{'id':'quiet','pk':'v','n':1}");
            CosmosItemRequestOptions options = new CosmosItemRequestOptions().setContentResponseOnWriteEnabled(false);
            CosmosItemResponse<ObjectNode> answer = orders.createItem(document, key("v"), options);
            same(answer.getStatusCode(), 201);
            same(answer.getItem(), null);
            same(read("quiet", key("v")), document);
            store("orders", "v", document);
        });
    }

    private static void many() {
        step("bulk: 120 creates in many partitions", () -> {
            List<CosmosItemOperation> operations = new ArrayList<>();
            for (int n = 0; n < 120; n++) {
                operations.add(CosmosBulkOperations.getCreateItemOperation(item(n), key("k" + n % 7)));
                store("orders", "k" + n % 7, item(n));
            }
            same(Set.copyOf(bulk(orders, operations, new ArrayList<>())), Set.of(201));
        });
        step("bulk: read, upsert, replace, patch, delete", () -> {
            CosmosBulkPatchItemRequestOptions condition = new CosmosBulkPatchItemRequestOptions();
            condition.setFilterPredicate("from c where c.n = 6");
            List<JsonNode> bodies = new ArrayList<>();
            List<Integer> statuses = bulk(orders, List.of(
                    CosmosBulkOperations.getReadItemOperation("i-001", key("k1")),
                    CosmosBulkOperations.getUpsertItemOperation(with(item(2), "group", "changed"), key("k2")),
                    CosmosBulkOperations.getReplaceItemOperation("i-003", with(item(3), "group", "changed"), key("k3")),
                    CosmosBulkOperations.getPatchItemOperation("i-004", key("k4"), CosmosPatchOperations.create().set("/group", "changed")),
                    CosmosBulkOperations.getDeleteItemOperation("i-005", key("k5")),
                    CosmosBulkOperations.getPatchItemOperation("i-006", key("k6"), CosmosPatchOperations.create().increment("/n", 1000), condition)), bodies);
            same(statuses, List.of(200, 200, 200, 200, 204, 200));
            same(bare(bodies.get(0)), item(1));
            for (int n : new int[] {2, 3, 4}) {
                store("orders", "k" + n, with(item(n), "group", "changed"));
            }
            forget("orders", "k5", "i-005");
            store("orders", "k6", item(6).put("n", 1006));
        });
        step("bulk: each operation has its own failure", () -> {
            CosmosBulkPatchItemRequestOptions condition = new CosmosBulkPatchItemRequestOptions();
            condition.setFilterPredicate("from c where c.n > 8");
            List<Integer> statuses = bulk(orders, List.of(
                    CosmosBulkOperations.getCreateItemOperation(item(1), key("k1")),
                    CosmosBulkOperations.getDeleteItemOperation("none", key("k1")),
                    CosmosBulkOperations.getPatchItemOperation("i-008", key("k1"), CosmosPatchOperations.create().set("/n", 0), condition),
                    CosmosBulkOperations.getReplaceItemOperation("i-015", item(15), key("k1"), new CosmosBulkItemRequestOptions().setIfMatchETag("\"old\""))),
                    new ArrayList<>());
            same(statuses, List.of(409, 404, 412, 412));
            same(bulk(orders, List.of(CosmosBulkOperations.getUpsertItemOperation(item(1), key("k1"))), new ArrayList<>()), List.of(200));
        });
        step("transactional batch: create, upsert, replace, patch, read, delete", () -> {
            orders.createItem(json("{'id':'b-0','pk':'batch','n':0}"));
            CosmosBatch batch = CosmosBatch.createCosmosBatch(key("batch"));
            batch.createItemOperation(json("{'id':'b-1','pk':'batch','n':1}"));
            batch.upsertItemOperation(json("{'id':'b-2','pk':'batch','n':2}"));
            batch.replaceItemOperation("b-1", json("{'id':'b-1','pk':'batch','n':11}"));
            CosmosBatchPatchItemRequestOptions condition = new CosmosBatchPatchItemRequestOptions();
            condition.setFilterPredicate("from c where c.n = 11");
            batch.patchItemOperation("b-1", CosmosPatchOperations.create().increment("/n", 1), condition);
            batch.readItemOperation("b-1");
            batch.deleteItemOperation("b-0");
            CosmosBatchResponse response = orders.executeCosmosBatch(batch);
            same(response.getStatusCode(), 200);
            same(statuses(response), List.of(201, 201, 200, 200, 200, 204));
            same(response.getResults().get(4).getItem(ObjectNode.class).get("n").asInt(), 12);
            store("orders", "batch", json("{'id':'b-1','pk':'batch','n':12}"));
            store("orders", "batch", json("{'id':'b-2','pk':'batch','n':2}"));
        });
        step("transactional batch: a conflict undoes all", () -> {
            CosmosBatch batch = CosmosBatch.createCosmosBatch(key("batch"));
            batch.createItemOperation(json("{'id':'b-3','pk':'batch'}"));
            batch.createItemOperation(json("{'id':'b-1','pk':'batch'}"));
            batch.upsertItemOperation(json("{'id':'b-4','pk':'batch'}"));
            CosmosBatchResponse response = orders.executeCosmosBatch(batch);
            check(!response.isSuccessStatusCode(), "the batch succeeded");
            same(statuses(response), List.of(424, 409, 424));
            fails(404, () -> read("b-3", key("batch")));
        });
        step("transactional batch: a patch condition that does not hold undoes all", () -> {
            CosmosBatch batch = CosmosBatch.createCosmosBatch(key("batch"));
            batch.upsertItemOperation(json("{'id':'b-5','pk':'batch'}"));
            CosmosBatchPatchItemRequestOptions condition = new CosmosBatchPatchItemRequestOptions();
            condition.setFilterPredicate("from c where c.n = 3");
            batch.patchItemOperation("b-2", CosmosPatchOperations.create().set("/n", 0), condition);
            batch.deleteItemOperation("b-1");
            same(statuses(orders.executeCosmosBatch(batch)), List.of(424, 412, 424));
            same(read("b-2", key("batch")).get("n").asInt(), 2);
            fails(404, () -> read("b-5", key("batch")));
        });
    }

    private static void queries() {
        step("query one partition with parameters", () -> {
            SqlQuerySpec spec = new SqlQuerySpec("SELECT * FROM c WHERE c.pk = @pk AND c.n >= @least",
                    List.of(new SqlParameter("@pk", "k1"), new SqlParameter("@least", 50)));
            List<ObjectNode> expected = byId(inOrders(d -> d.get("pk") != null && d.get("pk").asText().equals("k1") && d.get("n").asInt() >= 50));
            CosmosQueryRequestOptions one = new CosmosQueryRequestOptions().setPartitionKey(key("k1"));
            same(byId(orders.queryItems(spec, one, ObjectNode.class)), expected);
            same(byId(orders.queryItems(spec, new CosmosQueryRequestOptions(), ObjectNode.class)), expected);
        });
        step("query all partitions", () -> {
            String sql = "SELECT * FROM c WHERE " + IS_ITEM + " AND c[\"group\"] IN (\"three\", \"changed\")";
            List<ObjectNode> expected = byId(items().stream().filter(d -> !d.get("group").asText().equals("other")).collect(Collectors.toList()));
            same(byId(query(sql, ObjectNode.class)), expected);
        });
        List<Integer> sorted = new ArrayList<>();
        step("ORDER BY over all partitions, up and down", () -> {
            items().forEach(d -> sorted.add(d.get("n").asInt()));
            Collections.sort(sorted);
            same(query("SELECT VALUE c.n FROM c WHERE " + IS_ITEM + " ORDER BY c.n", Integer.class), sorted);
            List<Integer> down = query("SELECT c.n FROM c WHERE " + IS_ITEM + " ORDER BY c.n DESC", ObjectNode.class).stream()
                    .map(d -> d.get("n").asInt()).collect(Collectors.toList());
            Collections.reverse(down);
            same(down, sorted);
        });
        step("ORDER BY two properties", () -> {
            List<String> rows = query("SELECT c[\"group\"], c.n FROM c WHERE " + IS_ITEM + " ORDER BY c[\"group\"], c.n DESC", ObjectNode.class).stream()
                    .map(d -> d.get("group").asText() + " " + d.get("n").asInt()).collect(Collectors.toList());
            List<String> expected = items().stream()
                    .sorted(Comparator.comparing((ObjectNode d) -> d.get("group").asText()).thenComparing(d -> -d.get("n").asInt()))
                    .map(d -> d.get("group").asText() + " " + d.get("n").asInt()).collect(Collectors.toList());
            same(rows, expected);
        });
        step("pages with continuation tokens", () -> {
            Set<String> ids = new TreeSet<>();
            String continuation = null;
            int pages = 0;
            do {
                FeedResponse<ObjectNode> page = orders.queryItems("SELECT c.id FROM c WHERE " + IS_ITEM, new CosmosQueryRequestOptions(), ObjectNode.class)
                        .iterableByPage(continuation, 10).iterator().next();
                for (ObjectNode row : page.getResults()) {
                    check(ids.add(row.get("id").asText()), "twice: " + row);
                }
                continuation = page.getContinuationToken();
                pages++;
            } while (continuation != null);
            check(pages >= 12, pages + " pages");
            same(ids, items().stream().map(d -> d.get("id").asText()).collect(Collectors.toCollection(TreeSet::new)));
        });
        long sum = items().stream().mapToLong(d -> d.get("n").asLong()).sum();
        step("COUNT and SUM over all partitions", () -> {
            same(query("SELECT VALUE COUNT(1) FROM c WHERE " + IS_ITEM, Integer.class), List.of(119));
            same(query("SELECT VALUE SUM(c.n) FROM c WHERE " + IS_ITEM, Double.class), List.of((double) sum));
            same(query("SELECT VALUE COUNT(1) FROM c WHERE c.id = 'nobody'", Integer.class), List.of(0));
        });
        step("AVG, MIN, MAX over all partitions", () -> {
            same(query("SELECT VALUE AVG(c.n) FROM c WHERE " + IS_ITEM, Double.class), List.of(sum / 119.0));
            same(query("SELECT VALUE MIN(c.n) FROM c WHERE " + IS_ITEM, Integer.class), List.of(0));
            same(query("SELECT VALUE MAX(c.n) FROM c WHERE " + IS_ITEM, Integer.class), List.of(1006));
        });
        step("aggregates of one partition", () -> {
            CosmosQueryRequestOptions one = new CosmosQueryRequestOptions().setPartitionKey(key("k3"));
            same(query(orders, "SELECT VALUE COUNT(1) FROM c", one, Integer.class), List.of(17));
            same(query(orders, "SELECT VALUE MAX(c.n) FROM c", one, Integer.class), List.of(115));
        });
        step("several aggregates by name", () -> {
            ObjectNode row = query("SELECT COUNT(1) AS many, MAX(c.n) AS most, MIN(c.half) AS least FROM c WHERE " + IS_ITEM, ObjectNode.class).get(0);
            same(row.get("many").asInt(), 119);
            same(row.get("most").asInt(), 1006);
            same(row.get("least").asDouble(), 0.0);
        });
        step("GROUP BY over all partitions", () -> {
            Map<String, String> rows = new TreeMap<>();
            for (ObjectNode row : query("SELECT c[\"group\"], COUNT(1) AS many, SUM(c.n) AS total, AVG(c.n) AS mean, MIN(c.n) AS least, MAX(c.n) AS most"
                    + " FROM c WHERE " + IS_ITEM + " GROUP BY c[\"group\"]", ObjectNode.class)) {
                rows.put(row.get("group").asText(), row.get("many").asInt() + " " + row.get("total").asLong() + " " + row.get("mean").asDouble()
                        + " " + row.get("least").asInt() + " " + row.get("most").asInt());
            }
            Map<String, String> expected = new TreeMap<>();
            for (String group : List.of("changed", "other", "three")) {
                var of = items().stream().filter(d -> d.get("group").asText().equals(group)).mapToLong(d -> d.get("n").asLong()).summaryStatistics();
                expected.put(group, of.getCount() + " " + of.getSum() + " " + of.getAverage() + " " + of.getMin() + " " + of.getMax());
            }
            same(rows, expected);
        });
        step("GROUP BY two properties, and of one value", () -> {
            int total = 0;
            Set<String> groups = new TreeSet<>();
            for (ObjectNode row : query("SELECT c.pk, c[\"group\"], COUNT(1) AS many FROM c WHERE " + IS_ITEM + " GROUP BY c.pk, c[\"group\"]", ObjectNode.class)) {
                total += row.get("many").asInt();
                check(groups.add(row.get("pk").asText() + " " + row.get("group").asText()), "twice: " + row);
            }
            same(total, 119);
            same(groups, items().stream().map(d -> d.get("pk").asText() + " " + d.get("group").asText()).collect(Collectors.toCollection(TreeSet::new)));
            List<Integer> counts = query("SELECT VALUE COUNT(1) FROM c WHERE " + IS_ITEM + " GROUP BY c.pk", Integer.class);
            Collections.sort(counts);
            same(counts, List.of(16, 17, 17, 17, 17, 17, 18));
        });
        step("DISTINCT, TOP, OFFSET and LIMIT", () -> {
            same(new TreeSet<>(query("SELECT DISTINCT VALUE c[\"group\"] FROM c WHERE " + IS_ITEM, String.class)), Set.of("changed", "other", "three"));
            same(query("SELECT TOP 5 * FROM c WHERE " + IS_ITEM, ObjectNode.class).size(), 5);
            same(query("SELECT VALUE c.n FROM c WHERE " + IS_ITEM + " ORDER BY c.n OFFSET 3 LIMIT 4", Integer.class), sorted.subList(3, 7));
        });
        step("JOIN, LIKE, functions, and a wrong query", () -> {
            same(query("SELECT VALUE t FROM c JOIN t IN c.tags WHERE c.id = 'o-1'", String.class), List.of("w", "x", "y"));
            List<String> like = query("SELECT VALUE c.id FROM c WHERE c.id LIKE \"i-00%\" AND NOT ARRAY_CONTAINS([1, 2], c.n)", String.class);
            same(new TreeSet<>(like), items().stream().map(d -> d.get("id").asText()).filter(id -> id.startsWith("i-00") && !id.equals("i-001") && !id.equals("i-002"))
                    .collect(Collectors.toCollection(TreeSet::new)));
            fails(400, () -> query("SELECT * FRM c", ObjectNode.class));
        });
        step("read all documents, and those of one key", () -> {
            same(byId(query("SELECT * FROM c", ObjectNode.class)), byId(inOrders(d -> true)));
            same(byId(orders.readAllItems(key("k1"), ObjectNode.class)), byId(items().stream().filter(d -> d.get("pk").asText().equals("k1")).collect(Collectors.toList())));
        });
        step("read many documents", () -> {
            List<CosmosItemIdentity> wanted = List.of(new CosmosItemIdentity(key("k1"), "i-001"), new CosmosItemIdentity(key("k2"), "i-002"),
                    new CosmosItemIdentity(key("k3"), "i-010"), new CosmosItemIdentity(key("a"), "o-1"), new CosmosItemIdentity(key("odd"), "it's"),
                    new CosmosItemIdentity(key("k1"), "none"));
            List<ObjectNode> expected = byId(List.of(stored.get(place("orders", "k1", "i-001")), stored.get(place("orders", "k2", "i-002")),
                    stored.get(place("orders", "k3", "i-010")), stored.get(place("orders", "a", "o-1")), stored.get(place("orders", "odd", "it's"))));
            same(byId(orders.readMany(wanted, ObjectNode.class).getResults()), expected);
        });
    }

    private static void feeds() {
        step("feed ranges", () -> {
            List<FeedRange> ranges = orders.getFeedRanges();
            check(ranges.size() >= 2, ranges.size() + " ranges");
            List<ObjectNode> queried = new ArrayList<>();
            List<ObjectNode> found = new ArrayList<>();
            for (FeedRange range : ranges) {
                queried.addAll(query(orders, "SELECT * FROM c", new CosmosQueryRequestOptions().setFeedRange(range), ObjectNode.class));
                feed(CosmosChangeFeedRequestOptions.createForProcessingFromBeginning(range), found);
            }
            same(byId(queried), byId(inOrders(d -> true)));
            same(byId(found), byId(inOrders(d -> true)));
        });
        step("change feed from the beginning, then what is new", () -> {
            List<ObjectNode> found = new ArrayList<>();
            CosmosChangeFeedRequestOptions options = CosmosChangeFeedRequestOptions.createForProcessingFromBeginning(FeedRange.forFullRange());
            String continuation = feed(options.setMaxItemCount(50), found);
            same(byId(found), byId(inOrders(d -> true)));
            ObjectNode document = json("{'id':'late','pk':'k1','n':-1}");
            orders.createItem(document);
            store("orders", "k1", document);
            List<ObjectNode> later = new ArrayList<>();
            feed(CosmosChangeFeedRequestOptions.createForProcessingFromContinuation(continuation), later);
            same(byId(later), List.of(document));
        });
        step("change feed of one key, and from now on", () -> {
            List<ObjectNode> found = new ArrayList<>();
            feed(CosmosChangeFeedRequestOptions.createForProcessingFromBeginning(FeedRange.forLogicalPartition(key("k1"))), found);
            same(byId(found), byId(inOrders(d -> d.get("pk") != null && d.get("pk").asText().equals("k1"))));
            List<ObjectNode> now = new ArrayList<>();
            feed(CosmosChangeFeedRequestOptions.createForProcessingFromNow(FeedRange.forFullRange()), now);
            same(now, List.of());
        });
    }

    private static void hierarchical() {
        step("hierarchical keys: create, read, replace, patch, delete", () -> {
            String[][] keys = {{"t1", "u1"}, {"t1", "u2"}, {"t2", "u1"}, {"t1", null}};
            for (int n = 0; n < keys.length; n++) {
                ObjectNode document = JSON.createObjectNode().put("id", "h-" + n).put("tenant", keys[n][0]).put("user", keys[n][1]).put("n", n);
                tenants.createItem(document, levels(keys[n]), new CosmosItemRequestOptions());
                same(bare(tenants.readItem("h-" + n, levels(keys[n]), ObjectNode.class).getItem()), document);
                store("tenants", Arrays.toString(keys[n]), document);
            }
            ObjectNode replaced = json("{'id':'h-0','tenant':'t1','user':'u1','n':100}");
            tenants.replaceItem(replaced, "h-0", levels("t1", "u1"), new CosmosItemRequestOptions());
            store("tenants", "[t1, u1]", replaced);
            tenants.patchItem("h-1", levels("t1", "u2"), CosmosPatchOperations.create().increment("/n", 10), ObjectNode.class);
            store("tenants", "[t1, u2]", json("{'id':'h-1','tenant':'t1','user':'u2','n':11}"));
            tenants.createItem(json("{'id':'h-9','tenant':'t2','user':'u9'}"));
            tenants.deleteItem("h-9", levels("t2", "u9"), new CosmosItemRequestOptions());
            fails(404, () -> tenants.readItem("h-0", levels("t1", "u2"), ObjectNode.class));
        });
        step("hierarchical keys: queries of all, one and a prefix of the levels", () -> {
            String sql = "SELECT VALUE c.id FROM c";
            same(query(tenants, sql, new CosmosQueryRequestOptions().setPartitionKey(levels("t1", "u2")), String.class), List.of("h-1"));
            same(new TreeSet<>(query(tenants, sql, new CosmosQueryRequestOptions().setPartitionKey(levels("t1")), String.class)), Set.of("h-0", "h-1", "h-3"));
            same(new TreeSet<>(query(tenants, sql, new CosmosQueryRequestOptions(), String.class)), Set.of("h-0", "h-1", "h-2", "h-3"));
        });
        step("hierarchical keys: bulk and batch", () -> {
            List<Integer> statuses = bulk(tenants, List.of(
                    CosmosBulkOperations.getUpsertItemOperation(json("{'id':'h-b','tenant':'t3','user':'u1'}"), levels("t3", "u1")),
                    CosmosBulkOperations.getReadItemOperation("h-2", levels("t2", "u1"))), new ArrayList<>());
            same(statuses, List.of(201, 200));
            store("tenants", "[t3, u1]", json("{'id':'h-b','tenant':'t3','user':'u1'}"));
            CosmosBatch batch = CosmosBatch.createCosmosBatch(levels("t3", "u1"));
            batch.createItemOperation(json("{'id':'h-c','tenant':'t3','user':'u1'}"));
            same(statuses(tenants.executeCosmosBatch(batch)), List.of(201));
            store("tenants", "[t3, u1]", json("{'id':'h-c','tenant':'t3','user':'u1'}"));
        });
    }

    private static void others(String name) {
        step("throughput: read and replace", () -> {
            same(orders.readThroughput().getProperties().getManualThroughput(), 1000);
            orders.replaceThroughput(ThroughputProperties.createManualThroughput(2000));
            same(orders.readThroughput().getProperties().getManualThroughput(), 2000);
        });
        step("what the connector wrote is read document by document", () -> {
            CosmosContainer ours = client.getDatabase("ours").getContainer("documents");
            List<JsonNode> documents = new ArrayList<>();
            List<String> lines = Files.readAllLines(Path.of(System.getenv("SDKS_OURS")));
            for (String line : lines) {
                documents.add(JSON.readTree(line).get("document"));
            }
            check(documents.size() > 100, documents.size() + " documents");
            same(byId(query(ours, "SELECT * FROM c", new CosmosQueryRequestOptions(), ObjectNode.class)), byId(documents));
            for (String line : lines.subList(0, 20)) {
                JsonNode document = JSON.readTree(line).get("document");
                JsonNode key = ((ArrayNode) JSON.readTree(line).get("key")).get(0);
                PartitionKey one = key.isObject() ? PartitionKey.NONE : new PartitionKey(JSON.convertValue(key, Object.class));
                same(bare(ours.readItem(document.get("id").asText(), one, ObjectNode.class).getItem()), bare(document));
            }
        });
        step("change feed of a container whose partitions have split and merged", () -> {
            CosmosContainer feed = client.getDatabase("ours").getContainer("feed");
            CosmosChangeFeedRequestOptions all = CosmosChangeFeedRequestOptions.createForProcessingFromBeginning(FeedRange.forFullRange());
            List<String> lines = new ArrayList<>();
            for (FeedResponse<ObjectNode> page : feed.queryChangeFeed(all.setMaxItemCount(50), ObjectNode.class).iterableByPage()) {
                page.getResults().forEach(document -> lines.add(document.toString()));
            }
            check(lines.size() > 100, lines.size() + " documents");
            Files.write(Path.of(System.getenv("SDKS_FEED")), lines);
        });
        step("delete a container and a database", () -> {
            client.createDatabase(name + "-short");
            CosmosDatabase gone = client.getDatabase(name + "-short");
            gone.createContainer("c", "/pk");
            same(gone.getContainer("c").delete().getStatusCode(), 204);
            fails(404, () -> gone.getContainer("c").read());
            same(gone.delete().getStatusCode(), 204);
            fails(404, gone::read);
        });
    }
}
