package io.cosmosflink.core;

import java.io.ByteArrayOutputStream;
import java.io.Serializable;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;

/**
 * Writes of documents of one partition key, of which the service carries out all or none. Not thread-safe.
 *
 * <pre>{@code
 * new Batch().create("payment-7", payment).replace("order-3", order, etag).patch("account-1", new Patch().increment("/balance", -10))
 * }</pre>
 *
 * <p>The service takes 100 operations and 2 MiB. A document is a JSON object in UTF-8, id and partition key included. None of the operations leaves
 * what it does not expect: a create whose document is there, or an ETag that is another one, refuses all of it. The core looks all of this through, so
 * that a batch that is none takes the way of {@code sink.failure-mode} with its operations. An ETag that is null or empty is none.
 *
 * <p>After a restore a batch is written again. Where it creates a document of its own that is still there as it was written, such as the payment above,
 * it was carried out and is left alone, its increments too. One of patches without such a document is carried out again, or refused: {@code
 * docs/writing.md} says what a replay does.
 */
@PublicEvolving
public final class Batch implements Serializable {
    /** Most operations that the service takes at once. */
    public static final int MAX_OPERATIONS = 100;

    private static final long serialVersionUID = 1L;

    /** Each as the core takes it. */
    private final ArrayList<byte[]> operations = new ArrayList<>();

    /** Writes a document, whether or not it is there. */
    public Batch upsert(String id, byte[] document) {
        return with("Upsert", id, document, "");
    }

    /** Writes a document whose ETag is this one; null is none. */
    public Batch upsert(String id, byte[] document, String ifMatch) {
        return with("Upsert", id, document, ifMatch);
    }

    /** Writes a document that is not there. One of its own shows a batch's replay that it was carried out. */
    public Batch create(String id, byte[] document) {
        return with("Create", id, document, "");
    }

    /** Writes a document that is there. */
    public Batch replace(String id, byte[] document) {
        return with("Replace", id, document, "");
    }

    /** Writes a document that is there and whose ETag is this one; null is none. */
    public Batch replace(String id, byte[] document, String ifMatch) {
        return with("Replace", id, document, ifMatch);
    }

    /** Takes a document out that is there. */
    public Batch delete(String id) {
        return with("Delete", id, null, "");
    }

    /** Takes a document out that is there and whose ETag is this one; null is none. */
    public Batch delete(String id, String ifMatch) {
        return with("Delete", id, null, ifMatch);
    }

    /**
     * Changes parts of a document that is there, by up to ten operations. A condition that does not hold refuses all of the batch. A replay changes
     * them once more, unless the batch creates a document of its own.
     */
    public Batch patch(String id, Patch patch) {
        return with("Patch", id, patch.bytes(), "");
    }

    /** The same where the document's ETag is this one; null is none. */
    public Batch patch(String id, Patch patch, String ifMatch) {
        return with("Patch", id, patch.bytes(), ifMatch);
    }

    /** How many operations it has. */
    public int size() {
        return operations.size();
    }

    /** The batch as the core takes it. */
    public byte[] bytes() {
        int size = 2 + operations.size();
        for (byte[] operation : operations) {
            size += operation.length;
        }
        ByteArrayOutputStream out = new ByteArrayOutputStream(size);
        out.write('[');
        for (int at = 0; at < operations.size(); at++) {
            if (at > 0) {
                out.write(',');
            }
            out.writeBytes(operations.get(at));
        }
        out.write(']');
        return out.toByteArray();
    }

    private Batch with(String verb, String id, byte[] document, String ifMatch) {
        if (id == null) {
            throw new IllegalArgumentException("a " + verb + " of a batch has no id; every document needs one");
        }
        StringBuilder head = new StringBuilder(64);
        head.append("{\"operationType\":\"").append(verb).append("\",\"id\":");
        JsonText.quote(head, "the id of a document in a batch", id);
        StringBuilder tail = new StringBuilder(48);
        if (ifMatch != null && !ifMatch.isEmpty()) {
            tail.append(",\"ifMatch\":");
            JsonText.quote(tail, "the ETag of a document in a batch", ifMatch);
        }
        ByteArrayOutputStream out = new ByteArrayOutputStream(96 + (document == null ? 0 : document.length));
        out.writeBytes(utf8(head));
        if (document != null) {
            out.writeBytes(utf8(",\"resourceBody\":"));
            out.writeBytes(inItsPlace(document));
        }
        out.writeBytes(utf8(tail.append('}')));
        operations.add(out.toByteArray());
        return this;
    }

    private static byte[] utf8(CharSequence text) {
        return text.toString().getBytes(StandardCharsets.UTF_8);
    }

    /** The very bytes of an object. What is none, and might become an operation of its own, lies there as a text: the core refuses it. */
    private static byte[] inItsPlace(byte[] document) {
        if (JsonText.isObject(document)) {
            return document;
        }
        StringBuilder text = new StringBuilder(document.length + 16);
        JsonText.quote(text, "a document of a batch", new String(document, StandardCharsets.UTF_8));
        return utf8(text);
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Batch that && Arrays.equals(bytes(), that.bytes());
    }

    @Override
    public int hashCode() {
        return Arrays.hashCode(bytes());
    }

    @Override
    public String toString() {
        return "Batch" + new String(bytes(), StandardCharsets.UTF_8);
    }
}
