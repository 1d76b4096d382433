package io.cosmosflink.core;

import java.nio.charset.StandardCharsets;

/**
 * One write of one document.
 *
 * @param type what to do
 * @param id of the document
 * @param partitionKey JSON array of the key's components in the order of the container's paths, such as {@code ["eu"]}
 * @param ifMatch ETag that the stored document must have, or empty
 * @param document a JSON object in UTF-8; empty for a delete
 */
@SuppressWarnings("ArrayRecordComponent")
public record Operation(OperationType type, String id, String partitionKey, String ifMatch, byte[] document) {
    private static final byte[] NOTHING = {};

    public static Operation upsert(String id, String partitionKey, byte[] document) {
        return new Operation(OperationType.UPSERT, id, partitionKey, "", document);
    }

    public static Operation delete(String id, String partitionKey) {
        return new Operation(OperationType.DELETE, id, partitionKey, "", NOTHING);
    }

    /** The OPERATION BODY of {@code docs/boundary.md}. */
    public byte[] encode() {
        byte[] name = id.getBytes(StandardCharsets.UTF_8);
        byte[] key = partitionKey.getBytes(StandardCharsets.UTF_8);
        byte[] etag = ifMatch.getBytes(StandardCharsets.UTF_8);
        // Of the right size at once: this runs for every record.
        FrameWriter out = new FrameWriter(17 + name.length + key.length + etag.length + document.length);
        return out.u8(type.number)
                .blob(name)
                .blob(key)
                .blob(etag)
                .blob(document)
                .array();
    }

    /** The body behind a frame head, as it is kept in a writer's state. */
    public static byte[] stateOf(byte[] body) {
        return new FrameWriter(body.length + 4)
                .reset(FrameKind.OPERATION_STATE)
                .raw(body)
                .toBytes();
    }

    /** The body out of a writer's state. */
    public static byte[] bodyOf(byte[] state) {
        FrameReader in = FrameReader.open(state, FrameKind.OPERATION_STATE);
        byte[] body = java.util.Arrays.copyOfRange(state, in.position(), state.length);
        decode(body);
        return body;
    }

    /** Reads a body; every bound is checked. */
    public static Operation decode(byte[] body) {
        FrameReader in = FrameReader.raw(body);
        OperationType type = OperationType.of(in.u8());
        Operation operation = new Operation(type, in.str(), in.str(), in.str(), in.blob());
        if (in.remaining() != 0) {
            throw FrameReader.state(in.remaining() + " bytes are left over behind an operation");
        }
        return operation;
    }
}
