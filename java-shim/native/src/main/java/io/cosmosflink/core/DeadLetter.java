package io.cosmosflink.core;

import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.Base64;
import java.util.HexFormat;
import java.util.Optional;

/**
 * What a dead letter of a job has in common with one of the core, so that both can lie in one container. The fields of a letter are described in {@code
 * docs/dead-letters.md}.
 */
@PublicEvolving
public final class DeadLetter {
    /** Most bytes of a letter's JSON: the service takes 2 MiB. */
    public static final int MAX_BYTES = 2 * 1024 * 1024 - 64 * 1024;

    /** Levels of nesting that the service takes in a document, of which the letter is one. */
    public static final int MAX_DEPTH = 128;

    /** UTF-16 units of a document that is too large for its letter: with escapes of six bytes each they still fit. */
    private static final int MAX_UNITS = 256 * 1024;

    /** Bytes of a document that is no text: in base64 they are four for three. */
    public static final int MAX_BINARY = 1024 * 1024;

    /** UTF-16 units of a text that stands beside the document: 8 KiB with escapes of six bytes each. */
    private static final int MAX_TEXT_UNITS = 8 * 1024 / 6;

    private static final int ID_BYTES = 16;

    private DeadLetter() {}

    /**
     * The letter's id, which follows from what was refused, so that a replay stores it once: the first 16 bytes of the SHA-256 of these parts, each behind
     * its length in bytes and a colon, in lower-case hexadecimal.
     *
     * @param container where the record came from or should have gone
     * @param partitionKey JSON array of the key's components
     * @param operation what was to be done with the record, as in the letter
     */
    public static String id(
            String container, String partitionKey, String documentId, String operation, byte[] document) {
        MessageDigest hash;
        try {
            hash = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("this JVM has no SHA-256, which every JVM must have", e);
        }
        for (String part : new String[] {container, partitionKey, documentId, operation}) {
            add(hash, part.getBytes(StandardCharsets.UTF_8));
        }
        add(hash, document);
        return HexFormat.of().formatHex(hash.digest(), 0, ID_BYTES);
    }

    private static void add(MessageDigest hash, byte[] part) {
        hash.update((part.length + ":").getBytes(StandardCharsets.US_ASCII));
        hash.update(part);
    }

    /** The beginning of a document that is too large to be kept whole; no surrogate pair is cut in two. */
    public static String beginning(String document) {
        return cut(document, MAX_UNITS);
    }

    /** As much of a text as may stand beside the document, such as the reason, which may quote the document; no surrogate pair is cut in two. */
    public static String text(String text) {
        return cut(text, MAX_TEXT_UNITS);
    }

    private static String cut(String text, int units) {
        if (text.length() <= units) {
            return text;
        }
        int end = Character.isHighSurrogate(text.charAt(units - 1)) ? units - 1 : units;
        return text.substring(0, end);
    }

    /** Base64 of a document that is no UTF-8 text, at most of its first {@link #MAX_BINARY} bytes; empty for one that is. */
    public static Optional<String> base64(byte[] document) {
        try {
            StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(document));
            return Optional.empty();
        } catch (CharacterCodingException e) {
            byte[] kept = Arrays.copyOf(document, Math.min(document.length, MAX_BINARY));
            return Optional.of(Base64.getEncoder().encodeToString(kept));
        }
    }
}
