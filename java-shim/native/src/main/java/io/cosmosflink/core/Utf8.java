package io.cosmosflink.core;

/** What Java's own encoder hides: it writes a question mark for half a surrogate pair, and so the name of another document. */
final class Utf8 {
    private Utf8() {}

    /**
     * Refuses text that has no UTF-8.
     *
     * @param what the text, for the message
     * @throws IllegalArgumentException when {@code text} holds half a surrogate pair
     */
    static void check(String what, String text) {
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (!Character.isSurrogate(c)) {
                continue;
            }
            if (Character.isHighSurrogate(c) && i + 1 < text.length() && Character.isLowSurrogate(text.charAt(i + 1))) {
                i++;
            } else {
                throw new IllegalArgumentException(String.format(
                        "%s has half a surrogate pair (\\u%04x), which UTF-8 cannot hold", what, (int) c));
            }
        }
    }
}
