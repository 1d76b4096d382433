package io.cosmosflink.jobs;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.time.format.DateTimeParseException;
import java.util.List;
import java.util.Locale;
import java.util.UUID;
import java.util.regex.Pattern;

/** What the jobs know about orders. Pure functions. */
final class Orders {
    /** Thread-safe once configured. Amounts keep every digit. */
    private static final ObjectMapper MAPPER = JsonMapper.builder()
            .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            .build();

    /** What the service adds to every document. */
    private static final List<String> SYSTEM_FIELDS = List.of("_rid", "_self", "_etag", "_attachments", "_ts", "_lsn");

    private static final Pattern REGION = Pattern.compile("[a-z]{2}(-[a-z]+)+(-?[0-9]+)?");
    private static final Pattern CURRENCY = Pattern.compile("[A-Z]{3}");
    private static final int ZONES = 16;

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
        if (!amount.isNumber() || amount.decimalValue().signum() < 0) {
            throw new BadRecordException("amount is " + shown(amount) + "; expected a number, at least 0");
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
        BigDecimal amount = order.path("amount").decimalValue();
        SYSTEM_FIELDS.forEach(order::remove);
        order.put(
                "size",
                amount.compareTo(BigDecimal.valueOf(100)) < 0
                        ? "small"
                        : amount.compareTo(BigDecimal.valueOf(1000)) < 0 ? "medium" : "large");
        order.put(
                "pipelineMillis",
                Math.max(0, now.toEpochMilli() - time(order, "createdAt").toEpochMilli()));
        return new OutgoingDocument(id, region, bytes(order));
    }

    /** The record of a delivery: the event and when it was acknowledged. */
    static OutgoingDocument delivered(OutgoingDocument event, Instant now) throws BadRecordException {
        ObjectNode record = object(event.document);
        record.put("deliveredAt", now.toString());
        return new OutgoingDocument(event.id, event.partitionKey, bytes(record));
    }

    /**
     * A dead letter. Its id follows from the record's id and key, so that reading the record again does not store it twice.
     *
     * @param partitionKey JSON array
     */
    static OutgoingDocument deadLetter(
            String container,
            String id,
            String partitionKey,
            byte[] document,
            String operation,
            String reason,
            Instant now) {
        String name = UUID.nameUUIDFromBytes(
                        (container + "\n" + partitionKey + "\n" + id).getBytes(StandardCharsets.UTF_8))
                .toString();
        ObjectNode letter = MAPPER.createObjectNode();
        letter.put("id", name);
        letter.put("container", container);
        letter.put("reason", reason);
        letter.put("operation", operation);
        letter.put("time", now.toString());
        letter.put("documentId", id);
        letter.put("partitionKey", partitionKey);
        try {
            letter.set("document", MAPPER.readTree(document));
        } catch (IOException e) {
            letter.put("document", new String(document, StandardCharsets.UTF_8));
        }
        return new OutgoingDocument(name, container, bytes(letter));
    }

    /** The source where it names a region; else one of a few zones, by customer, so that no partition gets all. */
    static String region(String source, String customer) {
        String name = source.trim().toLowerCase(Locale.ROOT);
        return REGION.matcher(name).matches() ? name : "zone-" + Math.floorMod(customer.hashCode(), ZONES);
    }

    private static BigDecimal normalised(BigDecimal amount) {
        return amount.setScale(2, RoundingMode.HALF_EVEN);
    }

    private static ObjectNode object(byte[] document) throws BadRecordException {
        try {
            if (MAPPER.readTree(document) instanceof ObjectNode object) {
                return object;
            }
        } catch (IOException e) {
            throw new BadRecordException("the document is not JSON: " + e.getMessage());
        }
        throw new BadRecordException("the document is not a JSON object");
    }

    private static String text(ObjectNode order, String field) throws BadRecordException {
        JsonNode value = order.path(field);
        if (!value.isTextual() || value.textValue().isBlank()) {
            throw new BadRecordException(field + " is " + shown(value) + "; expected a text that is not empty");
        }
        return value.textValue();
    }

    private static Instant time(ObjectNode order, String field) throws BadRecordException {
        String value = text(order, field);
        try {
            return OffsetDateTime.parse(value).toInstant();
        } catch (DateTimeParseException e) {
            throw new BadRecordException(field + " is '" + value + "'; expected an ISO 8601 time with its offset");
        }
    }

    private static String shown(JsonNode value) {
        String text = value.isMissingNode() ? "missing" : value.toString();
        return text.length() <= 100 ? text : text.substring(0, 100) + "..";
    }

    private static byte[] bytes(ObjectNode node) {
        try {
            return MAPPER.writeValueAsBytes(node);
        } catch (JsonProcessingException e) {
            throw new IllegalStateException("a tree that was just built cannot be written", e);
        }
    }
}
