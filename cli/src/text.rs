//! What is printed for people.

use std::fmt::Write;

/// Text on one line, in which nothing commands a terminal.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(' '),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// At most so many characters of a text.
pub fn short(text: &str, most: usize) -> String {
    let visible = visible(text);
    match visible.char_indices().nth(most) {
        None => visible,
        Some(_) => visible.chars().take(most - 1).chain(['…']).collect(),
    }
}

/// Rows under a head, each column as wide as it needs; the last one ends where its text does.
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(|name| name.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    let mut line = |cells: [&str; N]| {
        for (n, (cell, width)) in cells.iter().zip(widths).enumerate() {
            // Writing into a String cannot fail.
            let _ = match n + 1 == N {
                true => writeln!(out, "{cell}"),
                false => write!(out, "{cell:<width$}  "),
            };
        }
    };
    line(head);
    for row in rows {
        line(std::array::from_fn(|n| row[n].as_str()));
    }
    out
}

/// JSON with a line for each of its parts. Texts and numbers keep their bytes.
pub fn indented(json: &str) -> String {
    let (mut out, mut depth, mut chars) = (String::with_capacity(json.len() * 2), 0, json.chars().peekable());
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                out.push(c);
                let mut escaped = false;
                for c in chars.by_ref() {
                    out.push(c);
                    match c {
                        '"' if !escaped => break,
                        '\\' => escaped = !escaped,
                        _ => escaped = false,
                    }
                }
            }
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                match chars.next_if(|c| matches!(c, '}' | ']')) {
                    Some(end) => out.push(end),
                    None => {
                        depth += 1;
                        line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = usize::saturating_sub(depth, 1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

/// Whether an error is that nobody reads what is printed any more.
pub fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_text() {
        let rows = [
            ["a".to_owned(), "bb".to_owned(), "c".to_owned()],
            ["üüü".to_owned(), "b".to_owned(), "c d".to_owned()],
        ];
        assert_eq!(
            table(["X", "Y", "Z"], &rows),
            "X    Y   Z\na    bb  c\nüüü  b   c d\n"
        );
    }

    #[test]
    fn nothing_commands_a_terminal() {
        assert_eq!(visible("a\u{1b}[2Jb\nc\u{7}"), "a\\u{1b}[2Jb c\\u{7}");
        assert_eq!(short("abcdef", 4), "abc…");
        assert_eq!(short("abcd", 4), "abcd");
    }

    #[test]
    fn json_is_laid_out_and_keeps_its_digits() {
        let json = r#"{"a":1.10,"b":[1e400,{}],"c":"x\\\"{,}","d":[]}"#;
        assert_eq!(
            indented(json),
            "{\n  \"a\": 1.10,\n  \"b\": [\n    1e400,\n    {}\n  ],\n  \"c\": \"x\\\\\\\"{,}\",\n  \"d\": []\n}"
        );
    }
}
