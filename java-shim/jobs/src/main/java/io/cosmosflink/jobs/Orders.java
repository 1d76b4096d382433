package io.cosmosflink.jobs;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.cfg.JsonNodeFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.cosmosflink.core.DeadLetter;
import java.io.IOException;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.nio.charset.StandardCharsets;
import java.time.DateTimeException;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.regex.Pattern;

/** What the jobs know about orders. Pure functions. */
final class Orders {
    /** Thread-safe once configured. Numbers keep every digit, zeros at the end included. */
    private static final ObjectMapper MAPPER = JsonMapper.builder()
            .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            .disable(JsonNodeFeature.STRIP_TRAILING_BIGDECIMAL_ZEROES)
            .build();

    /** What the service adds to every document. */
    private static final List<String> SYSTEM_FIELDS = List.of("_rid", "_self", "_etag", "_attachments", "_ts", "_lsn");

    private static final Pattern REGION = Pattern.compile("[a-z]{2}(-[a-z]+)+(-?[0-9]+)?");
    private static final Pattern CURRENCY = Pattern.compile("[A-Z]{3}");
    private static final int ZONES = 16;
    /** Of an amount: to round {@code 1e999999999} to the hundredth would take all memory. */
    private static final int MAX_WHOLE_DIGITS = 18;

    private static final int MAX_FRACTION_DIGITS = 100;

    private Orders() {}

    /**
     * The order, checked, with {@code region} and {@code processedAt} added and {@code amount} rounded to the hundredth.
     *
     * @throws BadRecordException with the field that is wrong and its value
     */
    static OutgoingDocument process(byte[] document, Instant now) throws BadRecordException {
        ObjectNode order = object(document);
        String id = text(order, "id");
        String customer = text(order, "customerId");
        String source = text(order, "source");
        JsonNode amount = order.path("amount");
        if (!amount.isNumber() || !usable(amount.decimalValue())) {
            throw new BadRecordException("amount is " + shown(amount) + "; expected a number, at least 0, of at most "
                    + MAX_WHOLE_DIGITS + " digits before and " + MAX_FRACTION_DIGITS + " behind the point");
        }
        String currency = text(order, "currency").toUpperCase(Locale.ROOT);
        if (!CURRENCY.matcher(currency).matches()) {
            throw new BadRecordException("currency is '" + currency + "'; expected three letters");
        }
        time(order, "createdAt");
        String region = region(source, customer);
        SYSTEM_FIELDS.forEach(order::remove);
        order.put("amount", normalised(amount.decimalValue()));
        order.put("currency", currency);
        order.put("region", region);
        order.put("processedAt", now.toString());
        return new OutgoingDocument(id, region, bytes(order));
    }

    /**
     * A processed order as the consumer gets it: with its size class and the time it took so far.
     *
     * @throws BadRecordException when it is none
     */
    static OutgoingDocument outgoing(byte[] document, Instant now) throws BadRecordException {
        ObjectNode order = object(document);
        String id = text(order, "id");
        String region = text(order, "region");
        time(order, "processedAt");
        long created = time(order, "createdAt");
        BigDecimal amount = order.path("amount").decimalValue();
        SYSTEM_FIELDS.forEach(order::remove);
        order.put(
                "size",
                amount.compareTo(BigDecimal.valueOf(100)) < 0
                        ? "small"
                        : amount.compareTo(BigDecimal.valueOf(1000)) < 0 ? "medium" : "large");
        order.put("pipelineMillis", Math.max(0, now.toEpochMilli() - created));
        return new OutgoingDocument(id, region, bytes(order));
    }

    /** The record of a delivery: the event and when it was acknowledged. */
    static OutgoingDocument delivered(byte[] event, Instant now) throws BadRecordException {
        ObjectNode record = object(event);
        record.put("deliveredAt", now.toString());
        return new OutgoingDocument(text(record, "id"), text(record, "region"), bytes(record));
    }

    /**
     * A dead letter, in the form of the core's. Its id follows from the record, so that reading it again does not store it twice.
     *
     * @param partitionKey JSON array
     * @param message why the record cannot be used
     */
    static OutgoingDocument deadLetter(
            String container,
            String id,
            String partitionKey,
            byte[] document,
            String operation,
            String message,
            Instant now) {
        String name = DeadLetter.id(container, partitionKey, id, operation, document);
        ObjectNode letter = MAPPER.createObjectNode();
        letter.put("id", name);
        letter.put("container", container);
        letter.put("operation", operation);
        letter.put("reason", "BadRequest");
        // No request failed.
        letter.put("status", 0);
        letter.put("subStatus", 0);
        // Half a surrogate pair, as "\ud800" in a document makes it, has no UTF-8; it becomes a question mark.
        String reason = DeadLetter.text(message);
        letter.put("message", new String(reason.getBytes(StandardCharsets.UTF_8), StandardCharsets.UTF_8));
        letter.put("activityId", "");
        letter.put("time", now.toString());
        letter.put("documentId", id);
        letter.put("partitionKey", partitionKey);
        letter.put("documentBytes", document.length);
        letter.put("truncated", false);
        try {
            JsonNode tree = tree(document);
            byte[] whole = depth(tree) < DeadLetter.MAX_DEPTH ? bytes(letter.set("document", tree)) : null;
            if (whole != null && whole.length <= DeadLetter.MAX_BYTES) {
                return new OutgoingDocument(name, container, whole);
            }
        } catch (BadRecordException e) {
            // It is kept as text.
        }
        Optional<String> base64 = DeadLetter.base64(document);
        String text = new String(document, StandardCharsets.UTF_8);
        try {
            if (base64.isPresent()) {
                letter.put("truncated", document.length > DeadLetter.MAX_BINARY);
                letter.put("documentEncoding", "base64");
                return new OutgoingDocument(name, container, bytes(letter.put("document", base64.get())));
            }
            byte[] whole = bytes(letter.put("document", text));
            if (whole.length <= DeadLetter.MAX_BYTES) {
                return new OutgoingDocument(name, container, whole);
            }
            letter.put("truncated", true);
            return new OutgoingDocument(name, container, bytes(letter.put("document", DeadLetter.beginning(text))));
        } catch (BadRecordException e) {
            throw new IllegalStateException("a dead letter for '" + id + "' cannot be written", e);
        }
    }

    /** Levels of nesting. */
    private static int depth(JsonNode node) {
        int below = 0;
        for (JsonNode child : node) {
            below = Math.max(below, depth(child));
        }
        return node.isContainerNode() ? below + 1 : below;
    }

    /** The source where it names a region; else one of a few zones, by customer, so that no partition gets all. */
    static String region(String source, String customer) {
        String name = source.trim().toLowerCase(Locale.ROOT);
        return REGION.matcher(name).matches() ? name : "zone-" + Math.floorMod(customer.hashCode(), ZONES);
    }

    private static boolean usable(BigDecimal amount) {
        return amount.signum() >= 0
                && (long) amount.precision() - amount.scale() <= MAX_WHOLE_DIGITS
                && amount.scale() <= MAX_FRACTION_DIGITS;
    }

    private static BigDecimal normalised(BigDecimal amount) {
        return amount.setScale(2, RoundingMode.HALF_EVEN);
    }

    private static ObjectNode object(byte[] document) throws BadRecordException {
        if (tree(document) instanceof ObjectNode object) {
            return object;
        }
        throw new BadRecordException("the document is not a JSON object");
    }

    private static JsonNode tree(byte[] document) throws BadRecordException {
        try {
            JsonNode tree = MAPPER.readTree(document);
            if (!tree.isMissingNode()) {
                return tree;
            }
        } catch (IOException e) {
            throw new BadRecordException("the document is not JSON: " + e.getMessage());
        }
        throw new BadRecordException("the document is not JSON: it is empty");
    }

    private static String text(ObjectNode order, String field) throws BadRecordException {
        JsonNode value = order.path(field);
        if (!value.isTextual() || value.textValue().isBlank()) {
            throw new BadRecordException(field + " is " + shown(value) + "; expected a text that is not empty");
        }
        return value.textValue();
    }

    /** Epoch millis. */
    private static long time(ObjectNode order, String field) throws BadRecordException {
        String value = text(order, field);
        try {
            return OffsetDateTime.parse(value).toInstant().toEpochMilli();
        } catch (DateTimeException | ArithmeticException e) {
            throw new BadRecordException(field + " is '" + value + "'; expected an ISO 8601 time with its offset");
        }
    }

    private static String shown(JsonNode value) {
        String text = value.isMissingNode() ? "missing" : value.toString();
        return text.length() <= 100 ? text : text.substring(0, 100) + "..";
    }

    private static byte[] bytes(JsonNode node) throws BadRecordException {
        try {
            String text = MAPPER.writeValueAsString(node);
            byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
            if (text.equals(new String(bytes, StandardCharsets.UTF_8))) {
                return bytes;
            }
        } catch (JsonProcessingException e) {
            throw new IllegalStateException("a tree that was just built cannot be written", e);
        }
        throw new BadRecordException("the document is not JSON: it has half a surrogate pair, which UTF-8 cannot hold");
    }
}
