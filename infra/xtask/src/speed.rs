//! `docs/speed.md`: each of its sections holds what one benchmark measured last.

use std::fmt::Write;

use anyhow::{Context, Result};
use comfy_table::Table;

use crate::root;

/// A table of measurements, for the terminal and as Markdown.
pub struct Sheet {
    table: Table,
    markdown: String,
}

impl Sheet {
    pub fn new(columns: &[&str]) -> Sheet {
        let mut table = Table::new();
        table.set_header(columns);
        let markdown = format!("| {} |\n|{}\n", columns.join(" | "), "---|".repeat(columns.len()));
        Sheet { table, markdown }
    }

    pub fn row(&mut self, cells: &[String]) {
        let _ = writeln!(self.markdown, "| {} |", cells.join(" | "));
        self.table.add_row(cells);
    }

    /// Shows it; returns it as Markdown.
    pub fn print(self) -> String {
        println!("{}", self.table);
        self.markdown
    }
}

/// Puts a text between the lines that mark a section.
pub fn record(section: &str, text: &str) -> Result<()> {
    let file = root().join("docs/speed.md");
    let about = || format!("cannot record '{section}' in {}", file.display());
    let before = std::fs::read_to_string(&file).with_context(about)?;
    let after = with_section(&before, section, text).with_context(about)?;
    std::fs::write(&file, after).with_context(about)?;
    println!("written to {}", file.display());
    Ok(())
}

fn with_section(document: &str, section: &str, text: &str) -> Result<String> {
    let [before, _, after] = split(document, section)?;
    Ok(format!("{before}\n{}\n{after}", text.trim()))
}

/// A document up to the line that begins a section, with it; the section; and the rest from the line that ends it on.
pub fn split<'a>(document: &'a str, section: &str) -> Result<[&'a str; 3]> {
    let find = |text: &str, mark: &str| {
        let line = format!("<!-- {section}:{mark} -->");
        let at = text.find(&line);
        at.map(|at| (at, at + line.len()))
            .with_context(|| format!("it has no {section}:{mark}"))
    };
    let (_, begin) = find(document, "begin")?;
    let (before, rest) = document.split_at(begin);
    let (end, _) = find(rest, "end")?;
    let (inside, after) = rest.split_at(end);
    Ok([before, inside, after])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_the_others_stay() {
        let document = "# T\n<!-- a:begin -->\nold\n<!-- a:end -->\n<!-- b:begin -->\nb\n<!-- b:end -->\n";
        let after = with_section(document, "a", "new\n").unwrap();
        assert_eq!(after, document.replace("old", "new"));
        let missing = with_section(document, "c", "new").unwrap_err();
        assert!(missing.to_string().contains("c:begin"), "{missing}");
    }

    #[test]
    fn the_document_has_all_sections() {
        let mut text = std::fs::read_to_string(root().join("docs/speed.md")).unwrap();
        for section in ["throughput", "peers", "sink-peers", "rows", "flat", "latency"] {
            text = with_section(&text, section, "measured").unwrap();
        }
        assert_eq!(text.matches("\nmeasured\n").count(), 6);
    }
}
