//! What must be known of a query before it is run: whether each feed range may answer it alone, and whether the driver takes it at all.
//!
//! The query is not parsed, only cut into words: what stands in strings, in comments and in sub-queries does not count. What is not found
//! out here is found out by the service when the job runs.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::split::fingerprint;

mod filter;

pub use self::filter::documents;

/// Functions that make one value of many rows.
const AGGREGATES: [&str; 5] = ["COUNT", "SUM", "AVG", "MIN", "MAX"];

/// A query that a source reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Its text.
    pub text: String,
    /// Values by name, such as `@status`.
    pub parameters: BTreeMap<String, Value>,
    /// What makes it one whole, such as `ORDER BY`: then it is read by one reader. `None`: each feed range answers for itself.
    pub global: Option<&'static str>,
}

/// The body of a request for a query without parameters.
pub(crate) fn body(text: &str) -> Vec<u8> {
    serde_json::json!({ "query": text }).to_string().into_bytes()
}

impl Query {
    /// A query and its parameters, a JSON object of values by name; empty: none.
    ///
    /// # Errors
    /// Why it cannot be read, and what to do.
    pub fn new(text: &str, parameters: &str) -> Result<Query, String> {
        let parameters: BTreeMap<String, Value> = match parameters {
            "" => BTreeMap::new(),
            json => serde_json::from_str(json).map_err(|e| {
                format!("scan.query-parameters: this is no JSON object: {e}; give one such as {{\"@status\":\"open\"}}")
            })?,
        };
        if let Some(name) = parameters.keys().find(|name| !name.starts_with('@')) {
            return Err(format!(
                "scan.query-parameters: '{name}' is no name of a parameter; names begin with @"
            ));
        }
        let words =
            words(text).ok_or("scan.query: a string or a bracket is not closed; correct the query")?;
        let words: Vec<_> = words.iter().map(|w| (w.text, w.nested)).collect();
        let is = |n: usize, word: &str| {
            words
                .get(n)
                .is_some_and(|(text, _)| text.eq_ignore_ascii_case(word))
        };
        if !is(0, "SELECT") {
            return Err("scan.query: a query begins with SELECT; correct the query".to_owned());
        }
        let parameter = |(text, _): &&(&str, bool)| text.starts_with('@');
        if let Some((name, _)) = words
            .iter()
            .filter(parameter)
            .find(|(name, _)| !parameters.contains_key(*name))
        {
            return Err(format!(
                "scan.query-parameters: the query's parameter {name} has no value; add it"
            ));
        }
        // A word of the query itself, and not the name of a property.
        let own = |n: usize| !words[n].1 && (n == 0 || !is(n - 1, "."));
        let clause = |first: &str, second: &str| {
            (1..words.len()).any(|n| own(n) && is(n, first) && (second.is_empty() || is(n + 1, second)))
        };
        let aggregate = (1..words.len()).find_map(|n| {
            let name = AGGREGATES.into_iter().find(|name| is(n, name))?;
            (own(n) && is(n + 1, "(")).then_some(name)
        });
        let refused = match aggregate {
            Some(name) => Some(name),
            None => clause("GROUP", "BY").then_some("GROUP BY"),
        };
        if let Some(what) = refused {
            return Err(format!(
                "scan.query: {what} cannot be answered across partitions: the service leaves that to its clients, and the driver refuses it. \
                 Select the documents or the columns that it is computed from, and aggregate in Flink: keyBy and reduce, or SQL over the stream"
            ));
        }
        let distinct = is(1, "DISTINCT");
        let global = [
            (distinct, "DISTINCT"),
            (is(1 + usize::from(distinct), "TOP"), "TOP"),
            (clause("ORDER", "BY"), "ORDER BY"),
            (clause("OFFSET", "") && clause("LIMIT", ""), "OFFSET LIMIT"),
        ];
        if distinct && !global[1..].iter().any(|(is, _)| *is) {
            return Err(
                "scan.query: DISTINCT over several partitions needs an ORDER BY of what is selected, or a TOP or OFFSET LIMIT that bounds it; \
                 add one, or leave DISTINCT out and drop repeats in Flink, as with keyBy and state"
                    .to_owned(),
            );
        }
        Ok(Query {
            text: text.to_owned(),
            parameters,
            global: global.into_iter().find(|(is, _)| *is).map(|(_, what)| what),
        })
    }

    /// Tells it and its parameters from others.
    pub fn fingerprint(&self) -> u64 {
        let parameters = self
            .parameters
            .iter()
            .flat_map(|(name, value)| [name.clone(), value.to_string()]);
        let parts: Vec<String> = std::iter::once(self.text.clone()).chain(parameters).collect();
        fingerprint(parts.iter().map(String::as_str))
    }

    /// Its parameters as a JSON object; empty where there are none.
    pub fn parameters_json(&self) -> String {
        match self.parameters.is_empty() {
            true => String::new(),
            false => serde_json::json!(self.parameters).to_string(),
        }
    }

    /// The body of its request.
    pub fn body(&self) -> Vec<u8> {
        let parameters: Vec<_> = self
            .parameters
            .iter()
            .map(|(name, value)| serde_json::json!({"name": name, "value": value}))
            .collect();
        serde_json::json!({"query": self.text, "parameters": parameters})
            .to_string()
            .into_bytes()
    }
}

struct Word<'a> {
    /// A name, a keyword, a parameter, or one sign.
    text: &'a str,
    /// It stands in a sub-query.
    nested: bool,
}

/// The words outside of strings and comments; `None` where a string or a bracket is not closed.
fn words(sql: &str) -> Option<Vec<Word<'_>>> {
    let bytes = sql.as_bytes();
    let part = |b: u8| b.is_ascii_alphanumeric() || b >= 0x80 || matches!(b, b'_' | b'@' | b'$');
    let mut out: Vec<Word<'_>> = Vec::new();
    // For each open bracket whether a sub-query is in it.
    let mut open: Vec<bool> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b if b.is_ascii_whitespace() => at += 1,
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                at += sql[at..].find('\n').unwrap_or(sql.len() - at);
            }
            quote @ (b'\'' | b'"') => {
                at += 1;
                while *bytes.get(at)? != quote {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b if part(b) => {
                while bytes.get(at).is_some_and(|b| part(*b)) {
                    at += 1;
                }
                let text = &sql[start..at];
                if out.last().is_some_and(|w| w.text == "(") && text.eq_ignore_ascii_case("SELECT") {
                    *open.last_mut()? = true;
                }
                let nested = open.contains(&true);
                out.push(Word { text, nested });
            }
            sign => {
                at += 1;
                match sign {
                    b'(' | b'[' | b'{' => open.push(false),
                    b')' | b']' | b'}' => drop(open.pop()?),
                    _ => {}
                }
                let nested = open.contains(&true);
                out.push(Word {
                    text: &sql[start..at],
                    nested,
                });
            }
        }
    }
    open.is_empty().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global(text: &str) -> Option<&'static str> {
        Query::new(text, "").unwrap().global
    }

    fn refused(text: &str) -> String {
        Query::new(text, "").unwrap_err()
    }

    #[test]
    fn plain_queries_are_answered_range_by_range() {
        for text in [
            "SELECT * FROM c",
            "select value c.id from c where c.n > 5 and c.order = 1",
            "SELECT c.top, c.distinct, c[\"order\"] AS x FROM c WHERE c.text = 'ORDER BY x' -- GROUP BY y\n",
            "SELECT c.id, ARRAY(SELECT DISTINCT VALUE t FROM t IN c.tags ORDER BY t) AS tags FROM c",
            "SELECT c.id, (SELECT VALUE COUNT(1) FROM t IN c.tags) AS n FROM c",
            "SELECT * FROM c WHERE EXISTS(SELECT VALUE t FROM t IN c.tags GROUP BY t)",
            "SELECT c.count, c.max FROM c JOIN t IN c.items WHERE c.offset = 3",
        ] {
            assert_eq!(global(text), None, "{text}");
        }
    }

    #[test]
    fn what_needs_a_global_answer_says_what_it_is() {
        assert_eq!(global("SELECT * FROM c ORDER BY c.n"), Some("ORDER BY"));
        assert_eq!(
            global("SELECT DISTINCT VALUE c.pk FROM c ORDER BY c.pk"),
            Some("DISTINCT")
        );
        assert_eq!(global("SELECT TOP 5 * FROM c"), Some("TOP"));
        assert_eq!(global("SELECT DISTINCT TOP 5 c.pk FROM c"), Some("DISTINCT"));
        assert_eq!(global("SELECT * FROM c OFFSET 3 LIMIT 5"), Some("OFFSET LIMIT"));
    }

    #[test]
    fn what_the_driver_refuses_is_refused_with_what_to_do() {
        for (text, what) in [
            ("SELECT COUNT(1) FROM c", "COUNT"),
            ("SELECT VALUE sum (c.n) FROM c", "SUM"),
            ("SELECT c.pk, MAX(c.n) AS most FROM c GROUP BY c.pk", "MAX"),
            ("SELECT c.pk FROM c GROUP BY c.pk", "GROUP BY"),
            ("SELECT DISTINCT c.pk FROM c", "DISTINCT"),
        ] {
            let error = refused(text);
            assert!(error.contains(what) && error.contains("in Flink"), "{error}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert!(refused("SELECT * FROM c WHERE c.x = 'a").contains("not closed"));
        assert!(refused("SELECT * FROM c WHERE (c.x = 1").contains("not closed"));
        assert!(refused("DELETE FROM c").contains("begins with SELECT"));
        assert!(refused("SELECT * FROM c WHERE c.x = @x").contains("@x has no value"));
        let of = |parameters| Query::new("SELECT * FROM c", parameters).unwrap_err();
        assert!(of("[1]").contains("no JSON object"));
        assert!(of(r#"{"x":1}"#).contains("'x' is no name"));
    }

    #[test]
    fn a_request_holds_text_and_parameters() {
        let query = Query::new(
            "SELECT * FROM c WHERE c.x = @x AND c.y = '@z'",
            r#"{"@x":[1,null]}"#,
        )
        .unwrap();
        let body: Value = serde_json::from_slice(&query.body()).unwrap();
        assert_eq!(body["query"], query.text);
        assert_eq!(
            body["parameters"],
            serde_json::json!([{"name":"@x","value":[1,null]}])
        );
    }
}
