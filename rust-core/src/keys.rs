//! Documents that a source reads by id and partition key.

use std::io::BufRead;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Id and partition key of a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DocumentKey {
    /// The id.
    pub id: String,
    /// JSON array of the key's components, as it was given.
    pub partition_key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Given<'a> {
    id: String,
    #[serde(borrow)]
    partition_key: &'a RawValue,
}

impl Given<'_> {
    fn key(self) -> DocumentKey {
        DocumentKey {
            id: self.id,
            partition_key: self.partition_key.get().to_owned(),
        }
    }
}

const EXAMPLE: &str = r#"{"id":"order-7","partitionKey":["eu"]}"#;

/// Keys of a JSON array such as `[{"id":"order-7","partitionKey":["eu"]}]`, as they stand there.
///
/// # Errors
/// Why it cannot be read.
pub fn of_list(text: &str) -> Result<Vec<DocumentKey>, String> {
    let given: Vec<Given<'_>> = serde_json::from_str(text).map_err(|e| {
        format!(
            "this is no list of ids and partition keys: {e}; give a JSON array of objects such as {EXAMPLE}"
        )
    })?;
    Ok(given.into_iter().map(Given::key).collect())
}

/// Keys of a file that has an object on each line, as they stand there. Empty lines are passed over. No more than a line is held.
///
/// Each is one, or why it cannot be read, with the line.
pub fn of_lines(text: impl BufRead) -> impl Iterator<Item = Result<DocumentKey, String>> {
    let lines = text.lines().enumerate();
    lines.filter_map(|(n, line)| {
        let line = match line {
            Ok(line) => line,
            Err(e) => return Some(Err(format!("line {}: {e}", n + 1))),
        };
        if line.trim().is_empty() {
            return None;
        }
        let given: Result<Given<'_>, _> = serde_json::from_str(&line);
        Some(given.map(Given::key).map_err(|e| {
            format!(
                "line {} is no id with its partition key: {e}; give an object such as {EXAMPLE}",
                n + 1
            )
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_a_list_or_from_lines() {
        let key = |id: &str, partition_key: &str| DocumentKey {
            id: id.into(),
            partition_key: partition_key.into(),
        };
        let expected = [key("a", r#"["k", 1]"#), key("b\"", "[null]")];
        let (one, two) = (
            r#"{"id":"b\"","partitionKey":[null]}"#,
            r#"{"partitionKey":["k", 1],"id":"a"}"#,
        );
        assert_eq!(of_list(&format!("[{two},{one}]")).unwrap(), expected);
        let lines = format!("{two}\n\n{one}\r\n");
        let read: Result<Vec<_>, _> = of_lines(lines.as_bytes()).collect();
        assert_eq!(read.unwrap(), expected);
    }

    #[test]
    fn mistakes_are_named() {
        assert!(of_list("{}").unwrap_err().contains("JSON array"));
        assert!(of_list(r#"[{"id":"a","key":["k"]}]"#)
            .unwrap_err()
            .contains("`key`"));
        let lines = "{\"id\":\"a\",\"partitionKey\":[]}\nb";
        let error = of_lines(lines.as_bytes()).nth(1).unwrap().unwrap_err();
        assert!(error.contains("line 2") && error.contains("order-7"), "{error}");
    }
}
