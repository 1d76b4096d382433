// What the Java SDK in gateway mode sends for the cases of tests/cases/wire.json. See ../README.md for the variables it takes.

import com.azure.cosmos.CosmosClient;
import com.azure.cosmos.CosmosClientBuilder;
import com.azure.cosmos.CosmosContainer;
import com.azure.cosmos.models.CosmosBatch;
import com.azure.cosmos.models.CosmosBulkItemRequestOptions;
import com.azure.cosmos.models.CosmosBulkOperations;
import com.azure.cosmos.models.CosmosBulkPatchItemRequestOptions;
import com.azure.cosmos.models.CosmosItemIdentity;
import com.azure.cosmos.models.CosmosItemOperation;
import com.azure.cosmos.models.CosmosPatchItemRequestOptions;
import com.azure.cosmos.models.CosmosPatchOperations;
import com.azure.cosmos.models.PartitionKey;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

public final class Wire {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final HttpClient HTTP = HttpClient.newHttpClient();

    private Wire() {}

    public static void main(String[] arguments) throws Exception {
        JsonNode input = JSON.readTree(Path.of(System.getenv("SDKS_CASES")).toFile());
        List<String> lines = new ArrayList<>();
        try (CosmosClient client = new CosmosClientBuilder()
                .endpoint(System.getenv("COSMOS_ENDPOINT"))
                .key(System.getenv("COSMOS_KEY"))
                .gatewayMode()
                // As the sink asks: the documents need not come back.
                .contentResponseOnWriteEnabled(false)
                .buildClient()) {
            CosmosContainer container =
                    client.getDatabase(System.getenv("SDKS_DATABASE")).getContainer("wire");
            input.get("prepare").forEach(container::upsertItem);
            admin("POST", "{\"headers\":[\"*\"],\"bodies\":true}");
            for (JsonNode wire : input.get("cases")) {
                admin("DELETE", null);
                carryOut(container, wire);
                ObjectNode line = JSON.createObjectNode().put("name", wire.get("name").asText());
                line.set("requests", admin("GET", null).get("requests"));
                lines.add(line.toString());
            }
            admin("POST", "{\"headers\":[]}");
        }
        Files.write(Path.of(System.getenv("SDKS_WIRE")), lines);
        System.exit(0);
    }

    private static JsonNode admin(String method, String body) throws Exception {
        BodyPublisher publisher = body == null ? BodyPublishers.noBody() : BodyPublishers.ofString(body);
        URI uri = URI.create(System.getenv("COSMOS_ENDPOINT") + "_local/requests");
        HttpRequest request = HttpRequest.newBuilder(uri).method(method, publisher).build();
        return JSON.readTree(HTTP.send(request, BodyHandlers.ofString()).body());
    }

    private static PartitionKey key(JsonNode value) {
        if (value.isNull()) {
            return new PartitionKey(null);
        }
        if (value.isNumber()) {
            return new PartitionKey(value.doubleValue());
        }
        return value.isBoolean() ? new PartitionKey(value.booleanValue()) : new PartitionKey(value.asText());
    }

    private static void carryOut(CosmosContainer container, JsonNode wire) {
        switch (wire.get("how").asText()) {
            case "bulk" -> {
                List<CosmosItemOperation> operations = new ArrayList<>();
                wire.get("operations").forEach(operation -> operations.add(bulk(operation)));
                container.executeBulkOperations(operations).forEach(answer -> {});
            }
            case "batch" -> {
                CosmosBatch batch = CosmosBatch.createCosmosBatch(key(wire.get("partitionKey")));
                wire.get("operations").forEach(operation -> add(batch, operation));
                container.executeCosmosBatch(batch);
            }
            case "patch" -> {
                CosmosPatchItemRequestOptions options = new CosmosPatchItemRequestOptions();
                JsonNode body = wire.get("resourceBody");
                if (body.has("condition")) {
                    options.setFilterPredicate(body.get("condition").asText());
                }
                container.patchItem(
                        wire.get("id").asText(), key(wire.get("partitionKey")), patch(body), options, ObjectNode.class);
            }
            case "read-many" -> {
                List<CosmosItemIdentity> identities = new ArrayList<>();
                wire.get("documents").forEach(document -> identities.add(
                        new CosmosItemIdentity(key(document.get("partitionKey")), document.get("id").asText())));
                container.readMany(identities, ObjectNode.class);
            }
            default -> throw new IllegalArgumentException("there is no way to carry out " + wire.get("how"));
        }
    }

    private static CosmosItemOperation bulk(JsonNode operation) {
        PartitionKey key = key(operation.get("partitionKey"));
        JsonNode body = operation.get("resourceBody");
        String id = operation.path("id").asText();
        CosmosBulkItemRequestOptions options = new CosmosBulkItemRequestOptions();
        if (operation.has("ifMatch")) {
            options.setIfMatchETag(operation.get("ifMatch").asText());
        }
        switch (operation.get("operationType").asText()) {
            case "Create":
                return CosmosBulkOperations.getCreateItemOperation(body, key, options);
            case "Upsert":
                return CosmosBulkOperations.getUpsertItemOperation(body, key, options);
            case "Replace":
                return CosmosBulkOperations.getReplaceItemOperation(id, body, key, options);
            case "Delete":
                return CosmosBulkOperations.getDeleteItemOperation(id, key, options);
            case "Patch":
                CosmosBulkPatchItemRequestOptions patching = new CosmosBulkPatchItemRequestOptions();
                if (body.has("condition")) {
                    patching.setFilterPredicate(body.get("condition").asText());
                }
                return CosmosBulkOperations.getPatchItemOperation(id, key, patch(body), patching);
            default:
                throw new IllegalArgumentException("there is no operation " + operation.get("operationType"));
        }
    }

    private static void add(CosmosBatch batch, JsonNode operation) {
        JsonNode body = operation.get("resourceBody");
        String id = operation.path("id").asText();
        switch (operation.get("operationType").asText()) {
            case "Create" -> batch.createItemOperation(body);
            case "Upsert" -> batch.upsertItemOperation(body);
            case "Replace" -> batch.replaceItemOperation(id, body);
            case "Delete" -> batch.deleteItemOperation(id);
            case "Patch" -> batch.patchItemOperation(id, patch(body));
            default -> throw new IllegalArgumentException("there is no operation " + operation.get("operationType"));
        }
    }

    private static CosmosPatchOperations patch(JsonNode body) {
        CosmosPatchOperations all = CosmosPatchOperations.create();
        for (JsonNode operation : body.get("operations")) {
            String path = operation.get("path").asText();
            JsonNode value = operation.get("value");
            switch (operation.get("op").asText()) {
                case "set" -> all.set(path, value);
                case "add" -> all.add(path, value);
                case "replace" -> all.replace(path, value);
                case "remove" -> all.remove(path);
                case "incr" -> all.increment(path, value.longValue());
                default -> throw new IllegalArgumentException("there is no " + operation.get("op"));
            }
        }
        return all;
    }
}
