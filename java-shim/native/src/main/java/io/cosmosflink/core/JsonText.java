package io.cosmosflink.core;

/** Strings in JSON. */
final class JsonText {
    private JsonText() {}

    /**
     * Appends a text as a JSON string.
     *
     * @param what the text, for the message
     * @throws IllegalArgumentException when it holds half a surrogate pair
     */
    static void quote(StringBuilder out, String what, String text) {
        Utf8.check(what, text);
        out.append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            switch (c) {
                case '"' -> out.append("\\\"");
                case '\\' -> out.append("\\\\");
                case '\b' -> out.append("\\b");
                case '\t' -> out.append("\\t");
                case '\n' -> out.append("\\n");
                case '\f' -> out.append("\\f");
                case '\r' -> out.append("\\r");
                default -> {
                    if (c < ' ') {
                        out.append(String.format("\\u%04X", (int) c));
                    } else {
                        out.append(c);
                    }
                }
            }
        }
        out.append('"');
    }
}
