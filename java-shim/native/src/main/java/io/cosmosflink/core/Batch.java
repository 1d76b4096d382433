package io.cosmosflink.core;

import java.io.Serializable;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;

/**
 * Writes of documents of one partition key, of which the service carries out all or none. Not thread-safe.
 *
 * <pre>{@code
 * new Batch().create("payment-7", payment).replace("order-3", order, etag).patch("account-1", new Patch().increment("/balance", -10))
 * }</pre>
 *
 * <p>The service takes 100 operations and 2 MiB. A document is a JSON object in UTF-8, id and partition key included. None of the operations leaves
 * what it does not expect: a create whose document is there, or an ETag that is another one, refuses all of it. {@code docs/writing.md} says what a
 * replay does.
 */
@PublicEvolving
public final class Batch implements Serializable {
    /** Most operations that the service takes at once. */
    public static final int MAX_OPERATIONS = 100;

    private static final long serialVersionUID = 1L;

    private final ArrayList<String> operations = new ArrayList<>();

    /** Writes a document, whether or not it is there. */
    public Batch upsert(String id, byte[] document) {
        return with("Upsert", id, document, "");
    }

    /** Writes a document whose ETag is this one. */
    public Batch upsert(String id, byte[] document, String ifMatch) {
        return with("Upsert", id, document, ifMatch);
    }

    /** Writes a document that is not there. */
    public Batch create(String id, byte[] document) {
        return with("Create", id, document, "");
    }

    /** Writes a document that is there. */
    public Batch replace(String id, byte[] document) {
        return with("Replace", id, document, "");
    }

    /** Writes a document that is there and whose ETag is this one. */
    public Batch replace(String id, byte[] document, String ifMatch) {
        return with("Replace", id, document, ifMatch);
    }

    /** Takes a document out that is there. */
    public Batch delete(String id) {
        return with("Delete", id, null, "");
    }

    /** Takes a document out that is there and whose ETag is this one. */
    public Batch delete(String id, String ifMatch) {
        return with("Delete", id, null, ifMatch);
    }

    /** Changes parts of a document that is there, by up to ten operations. A condition that does not hold refuses all of the batch. */
    public Batch patch(String id, Patch patch) {
        return with("Patch", id, patch.bytes(), "");
    }

    /** The same where the document's ETag is this one. */
    public Batch patch(String id, Patch patch, String ifMatch) {
        return with("Patch", id, patch.bytes(), ifMatch);
    }

    /** How many operations it has. */
    public int size() {
        return operations.size();
    }

    /**
     * The batch as the core takes it.
     *
     * @throws IllegalArgumentException when it is empty, or has more operations than the service takes
     */
    public byte[] bytes() {
        if (operations.isEmpty()) {
            throw new IllegalArgumentException("the batch has no operations; leave the record out, or give it one");
        }
        if (operations.size() > MAX_OPERATIONS) {
            throw new IllegalArgumentException("the batch has " + operations.size() + " operations; the service takes "
                    + MAX_OPERATIONS + " at once. Make it several, each of which is carried out whole");
        }
        return ("[" + String.join(",", operations) + "]").getBytes(StandardCharsets.UTF_8);
    }

    private Batch with(String verb, String id, byte[] document, String ifMatch) {
        if (id == null || id.isEmpty()) {
            throw new IllegalArgumentException("a " + verb + " of a batch has no id; every document needs one");
        }
        StringBuilder out = new StringBuilder(64 + (document == null ? 0 : document.length));
        out.append("{\"operationType\":\"").append(verb).append("\",\"id\":");
        JsonText.quote(out, "the id of a document in a batch", id);
        if (document != null) {
            out.append(",\"resourceBody\":").append(new String(document, StandardCharsets.UTF_8));
        }
        if (!ifMatch.isEmpty()) {
            out.append(",\"ifMatch\":");
            JsonText.quote(out, "the ETag of a document in a batch", ifMatch);
        }
        operations.add(out.append('}').toString());
        return this;
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Batch that && operations.equals(that.operations);
    }

    @Override
    public int hashCode() {
        return operations.hashCode();
    }

    @Override
    public String toString() {
        return "Batch" + operations;
    }
}
