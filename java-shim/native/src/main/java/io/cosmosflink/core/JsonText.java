package io.cosmosflink.core;

/** Strings in JSON. */
final class JsonText {
    private JsonText() {}

    /**
     * Whether what is put between others in a JSON text stays in its place: an object from its first to its last byte, but for spaces around it.
     * Whether it is JSON inside, the core finds out.
     */
    static boolean isObject(byte[] text) {
        int at = behindSpace(text, 0);
        return at < text.length && text[at] == '{' && isValue(text);
    }

    /** The same of any value. */
    static boolean isValue(byte[] text) {
        int at = behindSpace(text, 0);
        if (at == text.length) {
            return false;
        }
        int end =
                switch (text[at]) {
                    case '{', '[' -> endOfNest(text, at);
                    case '"' -> endOfString(text, at);
                    default -> endOfWord(text, at);
                };
        return behindSpace(text, end) == text.length;
    }

    /** Behind the number or the word that begins here. */
    private static int endOfWord(byte[] text, int at) {
        int end = at;
        while (end < text.length
                && (text[end] >= '0' && text[end] <= '9'
                        || text[end] >= 'a' && text[end] <= 'z'
                        || text[end] == 'E'
                        || text[end] == '-'
                        || text[end] == '+'
                        || text[end] == '.')) {
            end++;
        }
        return end;
    }

    /** Behind the string that begins here; beyond the text where it does not end. */
    private static int endOfString(byte[] text, int at) {
        int end = at + 1;
        while (end < text.length && text[end] != '"') {
            end += text[end] == '\\' ? 2 : 1;
        }
        return end + 1;
    }

    /** Behind the object or array that begins here; beyond the text where it does not end. */
    private static int endOfNest(byte[] text, int at) {
        int depth = 0;
        int end = at;
        while (end < text.length) {
            byte b = text[end];
            end = b == '"' ? endOfString(text, end) : end + 1;
            if (b == '{' || b == '[') {
                depth++;
            } else if (b == '}' || b == ']') {
                depth--;
                if (depth == 0) {
                    return end;
                }
            }
        }
        return text.length + 1;
    }

    /** Behind the spaces that begin here, if any do. */
    private static int behindSpace(byte[] text, int at) {
        int end = at;
        while (end < text.length && isSpace(text[end])) {
            end++;
        }
        return end;
    }

    static boolean isSpace(byte b) {
        return b == ' ' || b == '\n' || b == '\r' || b == '\t';
    }

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
