package io.cosmosflink.core;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.HexFormat;

/** What converters do to documents that are JSON already, and ids of values that are no document yet. */
@PublicEvolving
public final class Documents {
    private static final int ID_BYTES = 16;

    private Documents() {}

    /**
     * The document with a time to live: the service takes it out so many seconds after its last change, where the container has time to live
     * turned on.
     *
     * @param document a JSON object in UTF-8 without a field {@code ttl}; not changed
     * @param seconds at least 1, or -1 for never, whatever the container says
     * @throws IllegalArgumentException for other seconds, and for what ends with no brace
     */
    public static byte[] withTimeToLive(byte[] document, int seconds) {
        if (seconds < 1 && seconds != -1) {
            throw new IllegalArgumentException(
                    "the time to live is " + seconds + " s; it must be at least 1, or -1 for never");
        }
        int end = document.length;
        while (end > 0 && JsonText.isSpace(document[end - 1])) {
            end--;
        }
        if (end == 0 || document[end - 1] != '}') {
            throw new IllegalArgumentException("a document with a time to live must be a JSON object");
        }
        end--;
        int last = end;
        while (last > 0 && JsonText.isSpace(document[last - 1])) {
            last--;
        }
        boolean empty = last > 0 && document[last - 1] == '{';
        byte[] field = ((empty ? "" : ",") + "\"ttl\":" + seconds + "}").getBytes(StandardCharsets.US_ASCII);
        byte[] out = Arrays.copyOf(document, end + field.length);
        System.arraycopy(field, 0, out, end, field.length);
        return out;
    }

    /**
     * An id that follows from these values: 32 hexadecimal digits of a SHA-256, the same as {@code hash(..)} of the option {@code sink.id} makes of a
     * document with these values.
     *
     * @param values strings, numbers, booleans or null; at least one
     */
    public static String hashedId(Object... values) {
        if (values.length == 0) {
            throw new IllegalArgumentException("a hash of no values is one id for all documents; give at least one");
        }
        MessageDigest hash;
        try {
            hash = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("this JVM has no SHA-256, which every JVM must have", e);
        }
        for (Object value : values) {
            if (value != null && !(value instanceof String || value instanceof Number || value instanceof Boolean)) {
                throw new IllegalArgumentException("a value of an id is a "
                        + value.getClass().getName() + "; it must be a string, a number, a boolean or null");
            }
            String text = String.valueOf(value);
            Utf8.check("a value of an id", text);
            byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
            String head = (value instanceof String ? "s" : "v") + bytes.length + ":";
            hash.update(head.getBytes(StandardCharsets.US_ASCII));
            hash.update(bytes);
        }
        return HexFormat.of().formatHex(hash.digest(), 0, ID_BYTES);
    }
}
