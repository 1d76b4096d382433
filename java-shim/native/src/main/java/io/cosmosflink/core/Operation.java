package io.cosmosflink.core;

import java.nio.charset.StandardCharsets;

/**
 * One write of one document, or a {@link Batch} of writes.
 *
 * @param type what to do
 * @param id of the document; empty: made of the document by {@code sink.id}, but for a patch
 * @param partitionKey JSON array of the key's components in the order of the container's paths, such as {@code ["eu"]}; empty: what the
 *     document has there, but for a patch
 * @param ifMatch ETag that the stored document must have, or empty
 * @param document a JSON object in UTF-8; empty for a delete; of a patch or a batch their bytes
 */
@PublicEvolving
@SuppressWarnings("ArrayRecordComponent")
public record Operation(OperationKind type, String id, String partitionKey, String ifMatch, byte[] document) {
    private static final byte[] NOTHING = {};

    public static Operation upsert(String id, String partitionKey, byte[] document) {
        return new Operation(OperationKind.UPSERT, id, partitionKey, "", document);
    }

    public static Operation delete(String id, String partitionKey) {
        return new Operation(OperationKind.DELETE, id, partitionKey, "", NOTHING);
    }

    /**
     * The OPERATION BODY of {@code docs/boundary.md}.
     *
     * @throws IllegalArgumentException when id, key or ETag hold half a surrogate pair, which has no bytes. Everything else the core looks through
     */
    public byte[] encode() {
        Utf8.check("the id", id);
        Utf8.check("the partition key", partitionKey);
        Utf8.check("the ETag", ifMatch);
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

    /** Whether a body stands for a record of which no write could be made. */
    public static boolean isRefused(byte[] body) {
        return body[0] == OperationKind.REFUSED.number;
    }

    /** Size in bytes of the document in a body. */
    public static int documentLength(byte[] body) {
        FrameReader in = FrameReader.raw(body);
        in.skip(1);
        for (int text = 0; text < 3; text++) {
            in.skip(in.u32());
        }
        return in.u32();
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
        OperationKind type = OperationKind.of(in.u8());
        Operation operation = new Operation(type, in.str(), in.str(), in.str(), in.blob());
        if (in.remaining() != 0) {
            throw FrameReader.state(in.remaining() + " bytes are left over behind an operation");
        }
        return operation;
    }
}
