//! Queries beyond what the emulator evaluates as they are: aggregates and GROUP BY over several partitions, aggregates
//! inside objects and arrays, and values that are not there.
//!
//! Over several partitions a client gets a query plan, sends the plan's rewritten query to each partition, and merges
//! the results. The emulator writes such plans for ORDER BY and the like, but not for aggregates. The plans made here
//! have the form that the gateway's have: `[{"item": COUNT(1)}]` for a value, `groupByItems` and `payload` for groups.
//! The emulator cannot evaluate an aggregate inside an object or array, so a query with one is taken apart: the emulator
//! evaluates the expressions at the leaves, and the rows are put together again from its answer.

use bytes::Bytes;
use serde_json::{json, Map, Value};

/// Why a query is refused: status and reason.
pub(crate) type Refusal = (u16, String);

const AGGREGATES: [(&str, &str); 5] = [
    ("COUNT", "Count"),
    ("SUM", "Sum"),
    ("AVG", "Average"),
    ("MIN", "Min"),
    ("MAX", "Max"),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// A keyword, a name, a parameter or a number.
    Word,
    Text,
    Symbol,
}

#[derive(Clone, Copy, Debug)]
struct Token {
    kind: Kind,
    start: usize,
    end: usize,
    /// How many brackets are open before it.
    depth: usize,
}

/// The tokens of a query; `None` where a string or a bracket is not closed, which the emulator then says better.
fn tokens(sql: &str) -> Option<Vec<Token>> {
    let bytes = sql.as_bytes();
    let word = |b: u8| b.is_ascii_alphanumeric() || b >= 0x80 || matches!(b, b'_' | b'@' | b'$');
    let (mut out, mut at, mut depth) = (Vec::new(), 0, 0usize);
    while at < bytes.len() {
        let (start, b) = (at, bytes[at]);
        let mut inside = depth;
        let kind = match b {
            b if b.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                at += sql[at..].find('\n').unwrap_or(sql.len() - at);
                continue;
            }
            b'\'' | b'"' => {
                at += 1;
                while *bytes.get(at)? != b {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
                Kind::Text
            }
            b if word(b) => {
                let number = b.is_ascii_digit();
                while bytes.get(at).is_some_and(|b| word(*b) || (number && *b == b'.')) {
                    at += 1;
                }
                Kind::Word
            }
            _ => {
                match b {
                    b'(' | b'[' | b'{' => depth += 1,
                    b')' | b']' | b'}' => {
                        depth = depth.checked_sub(1)?;
                        inside = depth;
                    }
                    _ => {}
                }
                at += 1;
                Kind::Symbol
            }
        };
        out.push(Token {
            kind,
            start,
            end: at,
            depth: inside,
        });
    }
    (depth == 0).then_some(out)
}

/// A part of a query: its tokens and the text they are from.
#[derive(Clone, Copy)]
struct Part<'a> {
    sql: &'a str,
    tokens: &'a [Token],
}

impl<'a> Part<'a> {
    fn text(&self) -> &'a str {
        match (self.tokens.first(), self.tokens.last()) {
            (Some(first), Some(last)) => &self.sql[first.start..last.end],
            _ => "",
        }
    }

    fn at(&self, n: usize) -> &'a str {
        self.tokens.get(n).map_or("", |t| &self.sql[t.start..t.end])
    }

    fn is(&self, n: usize, word: &str) -> bool {
        self.tokens.get(n).is_some_and(|t| t.kind != Kind::Text) && self.at(n).eq_ignore_ascii_case(word)
    }

    fn slice(&self, range: std::ops::Range<usize>) -> Self {
        Self {
            sql: self.sql,
            tokens: &self.tokens[range],
        }
    }

    fn depth(&self) -> usize {
        self.tokens.first().map_or(0, |t| t.depth)
    }

    /// The parts between the commas outside of brackets.
    fn list(&self) -> Vec<Self> {
        let depth = self.depth();
        let mut parts = Vec::new();
        let mut from = 0;
        for n in 0..self.tokens.len() {
            if self.tokens[n].depth == depth && self.is(n, ",") {
                parts.push(self.slice(from..n));
                from = n + 1;
            }
        }
        parts.push(self.slice(from..self.tokens.len()));
        parts
    }

    /// The inside of a part that is one pair of these brackets and nothing else.
    fn within(&self, open: &str, close: &str) -> Option<Self> {
        let last = self.tokens.len().checked_sub(1)?;
        let depth = self.depth();
        let closes = (1..=last).find(|n| self.tokens[*n].depth == depth && self.is(*n, close))?;
        (self.is(0, open) && closes == last).then(|| self.slice(1..last))
    }

    /// Name and argument of a part that is one call of an aggregate function and nothing else.
    fn aggregate(&self) -> Option<(&'static str, Self)> {
        let (_, kind) = AGGREGATES.iter().find(|(name, _)| self.is(0, name))?;
        let call = self.slice(1..self.tokens.len()).within("(", ")")?;
        Some((kind, call))
    }

    /// Whether an aggregate function is called in it.
    fn has_aggregate(&self) -> bool {
        (0..self.tokens.len()).any(|n| {
            AGGREGATES.iter().any(|(name, _)| self.is(n, name))
                && self.is(n + 1, "(")
                && !(n > 0 && self.is(n - 1, "."))
        })
    }

    /// The name that an expression without `AS` gives to its property, if it gives one.
    fn own_name(&self) -> Option<String> {
        let last = self.tokens.len().checked_sub(1)?;
        let text = self.at(last);
        if self.is(last, "]")
            && last >= 2
            && self.tokens[last - 1].kind == Kind::Text
            && self.is(last - 2, "[")
        {
            return string(self.at(last - 1));
        }
        let path =
            (0..=last).all(|n| self.tokens[n].kind != Kind::Symbol || matches!(self.at(n), "." | "[" | "]"));
        (path && self.tokens[last].kind == Kind::Word).then(|| text.to_owned())
    }
}

/// The value of a string literal.
fn string(literal: &str) -> Option<String> {
    let inside = literal.get(1..literal.len().checked_sub(1)?)?;
    let json = match literal.as_bytes().first()? {
        b'"' => literal.to_owned(),
        _ => format!("\"{}\"", inside.replace("\\'", "'").replace('"', "\\\"")),
    };
    serde_json::from_str(&json).ok()
}

struct Item<'a> {
    expression: Part<'a>,
    /// The property's name in a row.
    name: String,
}

/// A query in its clauses.
struct Select<'a> {
    distinct: bool,
    top: Option<&'a str>,
    /// `SELECT VALUE`.
    value: bool,
    /// Empty for `*`.
    items: Vec<Item<'a>>,
    /// FROM with its collection, without WHERE.
    from: &'a str,
    filter: Option<&'a str>,
    group_by: Vec<Part<'a>>,
    order_by: Option<&'a str>,
    window: Option<&'a str>,
}

impl<'a> Select<'a> {
    fn parse(sql: &'a str, tokens: &'a [Token]) -> Option<Self> {
        let all = Part { sql, tokens };
        if !all.is(0, "SELECT") {
            return None;
        }
        // A clause begins with its word outside of brackets, where the word is not a property's name.
        let clause = |words: &[&str]| {
            (1..tokens.len()).find(|n| {
                tokens[*n].depth == 0
                    && !all.is(n - 1, ".")
                    && words.iter().enumerate().all(|(i, word)| all.is(n + i, word))
            })
        };
        let end = tokens.len();
        let window = clause(&["OFFSET"]);
        let order = clause(&["ORDER", "BY"]);
        let group = clause(&["GROUP", "BY"]);
        let filter = clause(&["WHERE"]);
        let from = clause(&["FROM"])?;
        let after = |start: usize| {
            let starts = [window, order, group, filter, Some(end)];
            starts
                .into_iter()
                .flatten()
                .filter(|n| *n > start)
                .min()
                .unwrap_or(end)
        };
        let text = |start: usize| all.slice(start..after(start)).text();
        let mut at = 1;
        let distinct = all.is(at, "DISTINCT");
        at += usize::from(distinct);
        let top = all.is(at, "TOP").then(|| all.at(at + 1));
        at += 2 * usize::from(top.is_some());
        let value = all.is(at, "VALUE");
        at += usize::from(value);
        let list = all.slice(at..from);
        let mut items = Vec::new();
        if list.text() != "*" {
            let mut unnamed = 0;
            for part in list.list() {
                let length = part.tokens.len();
                let (expression, alias) = match length.checked_sub(2) {
                    Some(n) if part.is(n, "AS") => (part.slice(0..n), Some(part.at(n + 1).to_owned())),
                    _ => (part, part.own_name()),
                };
                if expression.tokens.is_empty() {
                    return None;
                }
                let name = alias.unwrap_or_else(|| {
                    unnamed += 1;
                    format!("${unnamed}")
                });
                items.push(Item { expression, name });
            }
        }
        Some(Self {
            distinct,
            top,
            value,
            items,
            from: text(from),
            filter: filter.map(|n| all.slice(n + 1..after(n)).text()),
            group_by: group.map_or_else(Vec::new, |n| all.slice(n + 2..after(n)).list()),
            order_by: order.map(text),
            window: window.map(text),
        })
    }

    fn has_aggregates(&self) -> bool {
        self.items.iter().any(|item| item.expression.has_aggregate())
    }

    /// The query with another list of what it selects, without TOP and OFFSET.
    fn with_list(&self, list: &str) -> String {
        let mut sql = format!("SELECT {list} {}", self.from);
        if let Some(filter) = self.filter {
            sql.push_str(&format!(" WHERE {filter}"));
        }
        if !self.group_by.is_empty() {
            let expressions: Vec<_> = self.group_by.iter().map(Part::text).collect();
            sql.push_str(&format!(" GROUP BY {}", expressions.join(", ")));
        }
        sql
    }
}

/// Whether the emulator refuses a query as wrong that it cannot evaluate or plan. It has no other sign of that than its
/// words; a function that does not exist at all is among them.
pub(crate) fn is_beyond_the_emulator(refusal: &[u8]) -> bool {
    let words = [
        "unsupported expression: ",
        "unknown function: ",
        "[NEEDS_GATEWAY_FALLBACK]",
    ];
    let refusal: Value = serde_json::from_slice(refusal).unwrap_or_default();
    let message = refusal["message"].as_str().unwrap_or_default();
    words.iter().any(|word| message.contains(word))
}

/// What to ask the emulator for the plan of a query.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan {
    /// The query that the emulator can plan: it has the same partitions and the same window.
    pub sql: String,
    /// What the emulator's `queryInfo` lacks.
    info: Map<String, Value>,
}

/// How a query is planned.
///
/// # Errors
/// 501 for aggregates and groups that cannot be merged from the partitions' results.
pub(crate) fn plan(sql: &str) -> Result<Plan, Refusal> {
    let as_it_is = |sql: &str| Plan {
        sql: sql.to_owned(),
        info: Map::new(),
    };
    let Some(tokens) = tokens(sql) else {
        return Ok(as_it_is(sql));
    };
    let Some(select) = Select::parse(sql, &tokens) else {
        return Ok(as_it_is(sql));
    };
    if select.group_by.is_empty() && !select.has_aggregates() {
        return Ok(as_it_is(&dotted_order(sql, &tokens)));
    }
    let refuse = |what: &str| Err((501, format!("{what} over several partitions is not emulated.")));
    if select.order_by.is_some() {
        return refuse("ORDER BY with aggregates or GROUP BY");
    }
    if select.distinct {
        return refuse("DISTINCT with aggregates or GROUP BY");
    }
    if select.items.is_empty() {
        return refuse("SELECT * with GROUP BY");
    }
    let (mut aggregates, mut types, mut payload) = (Vec::new(), Map::new(), Vec::new());
    for item in &select.items {
        let text = item.expression.text();
        let (kind, part) = match item.expression.aggregate() {
            Some((kind, argument)) => (Some(kind), partial(kind, argument.text())),
            None if item.expression.has_aggregate() => return refuse("An expression around aggregates"),
            None => (None, text.to_owned()),
        };
        if let Some(kind) = kind.filter(|kind| !aggregates.contains(kind)) {
            aggregates.push(kind);
        }
        if types.insert(item.name.clone(), json!(kind)).is_some() {
            return Err((400, format!("The name '{}' is selected twice.", item.name)));
        }
        payload.push(match (select.value, kind) {
            (true, Some(_)) => format!("[{part}]"),
            (true, None) => part,
            (false, _) => format!("{}: {part}", Value::from(item.name.as_str())),
        });
    }
    let payload = if select.value {
        payload.remove(0)
    } else {
        format!("{{{}}}", payload.join(", "))
    };
    let groups: Vec<_> = select.group_by.iter().map(Part::text).collect();
    let list = match (groups.is_empty(), select.value) {
        (true, true) => format!("VALUE {payload}"),
        (true, false) => format!("{payload} AS payload"),
        (false, _) => {
            let items: Vec<_> = groups
                .iter()
                .map(|group| format!(r#"{{"item": {group}}}"#))
                .collect();
            format!("[{}] AS groupByItems, {payload} AS payload", items.join(", "))
        }
    };
    let aliases: Vec<_> = select.items.iter().map(|item| item.name.clone()).collect();
    let mut info = Map::new();
    let named = !select.value;
    // One list of kinds for a value; a list of names has the kind of each name instead.
    info.insert(
        "aggregates".into(),
        if named { json!([]) } else { json!(aggregates) },
    );
    info.insert("groupByExpressions".into(), json!(groups));
    info.insert(
        "groupByAliases".into(),
        if named { json!(aliases) } else { json!([]) },
    );
    let types = if named { Value::Object(types) } else { json!({}) };
    info.insert("groupByAliasToAggregateType".into(), types);
    info.insert("rewrittenQuery".into(), select.with_list(&list).into());
    info.insert("hasSelectValue".into(), select.value.into());
    let top = select.top.map_or_else(String::new, |top| format!("TOP {top} "));
    let filter = select
        .filter
        .map_or_else(String::new, |filter| format!(" WHERE {filter}"));
    let window = select
        .window
        .map_or_else(String::new, |window| format!(" {window}"));
    let sql = format!("SELECT {top}* {}{filter}{window}", select.from);
    Ok(Plan { sql, info })
}

impl Plan {
    /// The whole plan from the emulator's.
    pub fn complete(self, plan: &[u8]) -> Option<Bytes> {
        let mut plan: Value = serde_json::from_slice(plan).ok()?;
        plan["queryInfo"].as_object_mut()?.extend(self.info);
        Some(plan.to_string().into())
    }
}

/// The query with `c["name"]` as `c.name` behind ORDER BY: the emulator plans for paths in dots alone.
fn dotted_order(sql: &str, tokens: &[Token]) -> String {
    let all = Part { sql, tokens };
    let order =
        (0..tokens.len()).find(|n| tokens[*n].depth == 0 && all.is(*n, "ORDER") && all.is(n + 1, "BY"));
    let Some(order) = order else {
        return sql.to_owned();
    };
    let plain = |name: &str| {
        name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
    };
    let (mut out, mut done) = (String::with_capacity(sql.len()), 0);
    for n in order..tokens.len() {
        if all.is(n, "[") && all.is(n + 2, "]") && tokens[n + 1].kind == Kind::Text {
            if let Some(name) = string(all.at(n + 1)).filter(|name| plain(name)) {
                out.push_str(sql[done..tokens[n].start].trim_end());
                out.push('.');
                out.push_str(&name);
                done = tokens[n + 2].end;
            }
        }
    }
    out.push_str(&sql[done..]);
    out
}

/// A partition's part of an aggregate, in a form that can be merged with those of others.
fn partial(kind: &str, argument: &str) -> String {
    match kind {
        "Average" => format!(r#"{{"item": {{"sum": SUM({argument}), "count": COUNT({argument})}}}}"#),
        // A partition without a value has no part in the least and the greatest: some clients see it by the count.
        "Min" | "Max" => {
            let (call, name) = (kind.to_uppercase(), kind.to_lowercase());
            format!(
                r#"{{"item": {call}({argument}), "item2": {{"{name}": {call}({argument}), "count": COUNT({argument})}}}}"#
            )
        }
        _ => format!(r#"{{"item": {}({argument})}}"#, kind.to_uppercase()),
    }
}

/// How a value of a row is put together from the leaves.
#[derive(Debug)]
enum Shape {
    Leaf(usize),
    Array(Vec<Shape>),
    Object(Vec<(String, Shape)>),
}

/// A query for the emulator in place of the client's, and what to do with its rows.
#[derive(Debug)]
pub(crate) struct Rewritten {
    pub sql: String,
    shapes: Option<Vec<(String, Shape)>>,
    value: bool,
    /// Leaves that count what a SUM or an AVG cannot take, by the leaf that they are about.
    guards: Vec<(usize, usize)>,
}

impl Rewritten {
    /// The client's page and its number of rows from the emulator's page, where they differ.
    pub fn answer(&self, page: &[u8]) -> Option<(Bytes, usize)> {
        self.shapes.as_ref()?;
        let mut page: Value = serde_json::from_slice(page).ok()?;
        let rows = self.rows(serde_json::from_value(page["Documents"].take()).ok()?);
        let count = rows.len();
        page["Documents"] = rows.into();
        page["_count"] = count.into();
        Some((page.to_string().into(), count))
    }

    /// The client's rows from the emulator's.
    fn rows(&self, rows: Vec<Value>) -> Vec<Value> {
        let Some(shapes) = &self.shapes else { return rows };
        rows.into_iter()
            .filter_map(|mut row| {
                for (leaf, guard) in &self.guards {
                    if row[name(*guard)].as_f64().is_some_and(|wrong| wrong > 0.0) {
                        row.as_object_mut()?.remove(&name(*leaf));
                    }
                }
                if self.value {
                    return fill(&shapes.first()?.1, &row);
                }
                let object = shapes
                    .iter()
                    .filter_map(|(name, shape)| Some((name.clone(), fill(shape, &row)?)));
                Some(Value::Object(object.collect()))
            })
            .collect()
    }
}

fn name(leaf: usize) -> String {
    format!("v{leaf}")
}

fn fill(shape: &Shape, row: &Value) -> Option<Value> {
    match shape {
        Shape::Leaf(leaf) => row.get(name(*leaf)).cloned(),
        Shape::Array(items) => Some(items.iter().filter_map(|item| fill(item, row)).collect()),
        Shape::Object(items) => {
            let items = items
                .iter()
                .filter_map(|(name, item)| Some((name.clone(), fill(item, row)?)));
            Some(Value::Object(items.collect()))
        }
    }
}

/// The query as the emulator can evaluate it, where it differs from the client's.
pub(crate) fn rewrite(sql: &str) -> Option<Rewritten> {
    let tokens = tokens(sql)?;
    let select = Select::parse(sql, &tokens)?;
    if !select.has_aggregates() {
        return only_defined(&select);
    }
    let mut leaves = Vec::new();
    let mut shapes = Vec::new();
    for item in &select.items {
        shapes.push((item.name.clone(), shape(item.expression, &mut leaves)?));
    }
    let mut columns: Vec<String> = leaves.iter().map(|leaf| leaf.text().to_owned()).collect();
    let mut guards = Vec::new();
    for (n, leaf) in leaves.iter().enumerate() {
        // A sum or an average over anything but numbers is undefined; the emulator passes over what is no number.
        if let Some(("Sum" | "Average", argument)) = leaf.aggregate() {
            let argument = argument.text();
            guards.push((n, columns.len()));
            columns.push(format!(
                "SUM((IS_DEFINED({argument}) AND NOT IS_NUMBER({argument})) ? 1 : 0)"
            ));
        }
    }
    let columns: Vec<_> = columns
        .iter()
        .enumerate()
        .map(|(n, text)| format!("{text} AS {}", name(n)))
        .collect();
    let top = select.top.map_or_else(String::new, |top| format!("TOP {top} "));
    let mut sql = select.with_list(&format!("{top}{}", columns.join(", ")));
    for clause in [select.order_by, select.window].into_iter().flatten() {
        sql.push(' ');
        sql.push_str(clause);
    }
    Some(Rewritten {
        sql,
        shapes: Some(shapes),
        value: select.value,
        guards,
    })
}

/// `SELECT VALUE` of what is not there gives no row; the emulator gives null.
fn only_defined(select: &Select<'_>) -> Option<Rewritten> {
    let [item] = select.items.as_slice() else {
        return None;
    };
    let constructed = item.expression.is(0, "{") || item.expression.is(0, "[");
    if !select.value || !select.group_by.is_empty() || constructed || select.from.is_empty() {
        return None;
    }
    let defined = format!("IS_DEFINED({})", item.expression.text());
    let filter = match select.filter {
        Some(filter) => format!("({filter}) AND {defined}"),
        None => defined,
    };
    let distinct = if select.distinct { "DISTINCT " } else { "" };
    let top = select.top.map_or_else(String::new, |top| format!("TOP {top} "));
    let mut sql = format!(
        "SELECT {distinct}{top}VALUE {} {} WHERE {filter}",
        item.expression.text(),
        select.from
    );
    for clause in [select.order_by, select.window].into_iter().flatten() {
        sql.push(' ');
        sql.push_str(clause);
    }
    Some(Rewritten {
        sql,
        shapes: None,
        value: true,
        guards: Vec::new(),
    })
}

fn shape<'a>(expression: Part<'a>, leaves: &mut Vec<Part<'a>>) -> Option<Shape> {
    if expression.has_aggregate() {
        if let Some(inside) = expression.within("[", "]") {
            let items: Option<_> = inside
                .list()
                .into_iter()
                .map(|item| shape(item, leaves))
                .collect();
            return items.map(Shape::Array);
        }
        if let Some(inside) = expression.within("{", "}") {
            let mut items = Vec::new();
            for property in inside.list() {
                if !property.is(1, ":") {
                    return None;
                }
                let key = property.slice(0..1);
                let key = match key.tokens[0].kind {
                    Kind::Text => string(key.text())?,
                    _ => key.text().to_owned(),
                };
                items.push((key, shape(property.slice(2..property.tokens.len()), leaves)?));
            }
            return Some(Shape::Object(items));
        }
    }
    leaves.push(expression);
    Some(Shape::Leaf(leaves.len() - 1))
}

/// The root and the expression of a patch's condition, `FROM root [[AS] alias] WHERE expression`: the alias by which
/// the expression calls the document.
///
/// # Errors
/// Says that the condition does not have that form.
pub(crate) fn condition(text: &str) -> Result<(&str, &str), String> {
    let wrong = || format!("The condition '{text}' is not of the form FROM c WHERE expression.");
    let all = tokens(text).ok_or_else(wrong)?;
    let part = Part {
        sql: text,
        tokens: &all,
    };
    if !part.is(0, "FROM") {
        return Err(wrong());
    }
    let (alias, filter) = match (part.is(2, "WHERE"), part.is(3, "WHERE"), part.is(2, "AS")) {
        (true, _, _) => (1, 2),
        (_, true, false) => (2, 3),
        (_, _, true) if part.is(4, "WHERE") => (3, 4),
        _ => return Err(wrong()),
    };
    let expression = part.slice(filter + 1..all.len());
    if part.tokens[alias].kind != Kind::Word || expression.tokens.is_empty() {
        return Err(wrong());
    }
    // Clauses behind the expression would be taken for a part of the query around it.
    for n in 0..expression.tokens.len() {
        let clause = ["GROUP", "ORDER", "OFFSET"]
            .iter()
            .any(|word| expression.is(n, word));
        if expression.tokens[n].depth == 0 && clause && !(n > 0 && expression.is(n - 1, ".")) {
            return Err(wrong());
        }
    }
    let (first, last) = (all[filter + 1].start, all[all.len() - 1].end);
    Ok((&text[all[alias].start..all[alias].end], &text[first..last]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(sql: &str) -> String {
        plan(sql).unwrap().info["rewrittenQuery"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn plans_have_the_gateways_form() {
        for plain in [
            "SELECT * FROM c WHERE c.count(1) = 'COUNT('",
            "SELECT c.max, c['sum'] FROM c ORDER BY c.min",
        ] {
            let plan = plan(plain).unwrap();
            assert_eq!((plan.sql.as_str(), plan.info.len()), (plain, 0));
        }
        let ordered = r#"SELECT c['a'] FROM c ORDER BY c['group'].b ["c"] DESC, c['x y'] OFFSET 1 LIMIT 2"#;
        assert_eq!(
            plan(ordered).unwrap().sql,
            "SELECT c['a'] FROM c ORDER BY c.group.b.c DESC, c['x y'] OFFSET 1 LIMIT 2"
        );
        let sql = "SELECT TOP 3 COUNT(1) AS n FROM c WHERE c.pk = 'a' GROUP BY c.k";
        assert_eq!(plan(sql).unwrap().sql, "SELECT TOP 3 * FROM c WHERE c.pk = 'a'");
        assert_eq!(
            rewritten("SELECT VALUE COUNT(1) FROM c WHERE c.a = ')'"),
            r#"SELECT VALUE [{"item": COUNT(1)}] FROM c WHERE c.a = ')'"#
        );
        assert_eq!(
            rewritten("select value avg(c.n) from c"),
            r#"SELECT VALUE [{"item": {"sum": SUM(c.n), "count": COUNT(c.n)}}] from c"#
        );
        assert_eq!(
            rewritten("SELECT TOP 3 c.k, c['x y'], COUNT(1) AS n, MAX(c.v) FROM c GROUP BY c.k, c['x y'] OFFSET 1 LIMIT 2"),
            concat!(
                r#"SELECT [{"item": c.k}, {"item": c['x y']}] AS groupByItems, {"k": c.k, "x y": c['x y'], "#,
                r#""n": {"item": COUNT(1)}, "$1": {"item": MAX(c.v), "item2": {"max": MAX(c.v), "count": COUNT(c.v)}}} "#,
                "AS payload FROM c GROUP BY c.k, c['x y']"
            )
        );
        let info = plan("SELECT c.k, COUNT(1) AS n FROM c GROUP BY c.k")
            .unwrap()
            .info;
        assert_eq!(
            info["groupByAliasToAggregateType"],
            json!({"k": null, "n": "Count"})
        );
        assert_eq!(info["groupByAliases"], json!(["k", "n"]));
        assert_eq!(
            rewritten("SELECT VALUE SUM(c.n) FROM c GROUP BY c.k"),
            r#"SELECT [{"item": c.k}] AS groupByItems, [{"item": SUM(c.n)}] AS payload FROM c GROUP BY c.k"#
        );
        for refused in [
            "SELECT VALUE SUM(c.a) / COUNT(1) FROM c",
            "SELECT c.k FROM c GROUP BY c.k ORDER BY c.k",
            "SELECT VALUE {n: COUNT(1)} FROM c",
        ] {
            assert_eq!(plan(refused).unwrap_err().0, 501, "{refused}");
        }
    }

    #[test]
    fn rows_are_put_together_from_the_leaves() {
        let query = rewrite(
            r#"SELECT [{"item": c.k}] AS groupByItems, {"k": c.k, "n": {"item": COUNT(1)}} AS payload FROM c GROUP BY c.k"#,
        );
        let query = query.unwrap();
        assert_eq!(
            query.sql,
            r#"SELECT [{"item": c.k}] AS v0, c.k AS v1, COUNT(1) AS v2 FROM c GROUP BY c.k"#
        );
        let rows = query.rows(vec![
            json!({"v0": [{"item": "a"}], "v1": "a", "v2": 2}),
            json!({"v0": [{}], "v2": 1}),
        ]);
        assert_eq!(
            rows,
            [
                json!({"groupByItems": [{"item": "a"}], "payload": {"k": "a", "n": {"item": 2}}}),
                json!({"groupByItems": [{}], "payload": {"n": {"item": 1}}}),
            ]
        );
    }

    #[test]
    fn a_sum_over_text_is_undefined() {
        let query = rewrite("SELECT VALUE [{\"item\": SUM(c.n)}] FROM c").unwrap();
        assert_eq!(
            query.sql,
            "SELECT SUM(c.n) AS v0, SUM((IS_DEFINED(c.n) AND NOT IS_NUMBER(c.n)) ? 1 : 0) AS v1 FROM c"
        );
        assert_eq!(
            query.rows(vec![json!({"v0": 3, "v1": 0})]),
            [json!([{"item": 3}])]
        );
        assert_eq!(query.rows(vec![json!({"v0": 3, "v1": 1})]), [json!([{}])]);
        assert_eq!(query.rows(vec![json!({"v1": 0})]), [json!([{}])]);
    }

    #[test]
    fn values_that_are_not_there_are_left_out() {
        let sql = |query| rewrite(query).map(|query| query.sql);
        assert_eq!(
            sql(
                "SELECT DISTINCT TOP 3 VALUE c.a.b FROM c WHERE c.x = 1 OR c.y ORDER BY c.z OFFSET 1 LIMIT 2"
            )
            .as_deref(),
            Some(
                "SELECT DISTINCT TOP 3 VALUE c.a.b FROM c WHERE (c.x = 1 OR c.y) AND IS_DEFINED(c.a.b) \
                 ORDER BY c.z OFFSET 1 LIMIT 2"
            )
        );
        assert_eq!(sql("SELECT c.a FROM c"), None);
        assert_eq!(sql("SELECT VALUE {a: c.a} FROM c"), None);
        assert_eq!(sql("SELECT VALUE c.a FROM c WHERE c.b = 'open"), None);
    }

    #[test]
    fn conditions_name_the_document() {
        assert_eq!(condition("from c where c.a = 1"), Ok(("c", "c.a = 1")));
        assert_eq!(
            condition("FROM root AS r WHERE r.x IN (1)"),
            Ok(("r", "r.x IN (1)"))
        );
        assert_eq!(
            condition("from root r where r.order = 1"),
            Ok(("r", "r.order = 1"))
        );
        for wrong in [
            "",
            "c.a = 1",
            "from c where",
            "from c join t in c.tags where t = 1",
            "from c where true order by c.a",
            "from c where (c.a",
        ] {
            assert!(condition(wrong).is_err(), "{wrong}");
        }
    }
}
