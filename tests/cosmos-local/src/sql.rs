//! Double-quoted strings in queries, which the emulator does not know: it takes them for names and finds nothing.

/// The query with its double-quoted strings (literals, and names in brackets) in single quotes, or `None` if it has
/// none. The keys of objects (`{"name": 1}`) stay as they are.
pub(crate) fn single_quoted(query: &str) -> Option<String> {
    let mut out = String::with_capacity(query.len() + 8);
    let mut changed = false;
    let mut rest = query;
    while let Some(start) = rest.find(['\'', '"']) {
        let quote = rest.as_bytes()[start];
        let before = &rest[..start];
        out.push_str(before);
        let Some(length) = closing(&rest[start + 1..], quote) else {
            break;
        };
        let (literal, after) = (&rest[start..start + length + 2], &rest[start + length + 2..]);
        if quote == b'"' && !after.trim_start().starts_with(':') {
            changed = true;
            out.push('\'');
            out.push_str(&literal[1..=length].replace('\'', "\\'").replace("\\\"", "\""));
            out.push('\'');
        } else {
            out.push_str(literal);
        }
        rest = after;
    }
    out.push_str(rest);
    changed.then_some(out)
}

/// The position of the closing quote; a backslash takes the character after it out of account.
fn closing(text: &str, quote: u8) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|b| {
        let ends = b == quote && !escaped;
        escaped = b == b'\\' && !escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_change_and_keys_stay() {
        for (query, expected) in [
            (
                r#"SELECT * FROM c WHERE c["pk"] = "x""#,
                Some("SELECT * FROM c WHERE c['pk'] = 'x'"),
            ),
            (
                r#"SELECT * FROM c WHERE c.a IN ("x", "it's")"#,
                Some(r"SELECT * FROM c WHERE c.a IN ('x', 'it\'s')"),
            ),
            (r#"SELECT VALUE ["x"] FROM c"#, Some("SELECT VALUE ['x'] FROM c")),
            (r#"SELECT {"a": "b"} FROM c"#, Some(r#"SELECT {"a": 'b'} FROM c"#)),
            (r#"SELECT c["a"]["b"] FROM c"#, Some("SELECT c['a']['b'] FROM c")),
            (r#"SELECT * FROM c WHERE c.a = 'say "x"'"#, None),
            (
                r#"SELECT * FROM c WHERE c.a = "say \"x\"""#,
                Some(r#"SELECT * FROM c WHERE c.a = 'say "x"'"#),
            ),
            (r#"SELECT * FROM c WHERE c.a = "open"#, None),
        ] {
            assert_eq!(single_quoted(query).as_deref(), expected, "{query}");
        }
    }
}
