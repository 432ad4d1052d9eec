//! Pieces of HTML.

use std::fmt::Write;

/// A cell of a table, as HTML, with attributes.
pub(super) struct HtmlCell {
    pub(super) class: &'static str,
    pub(super) content: String,
}

impl HtmlCell {
    pub(super) fn new(content: String) -> HtmlCell {
        HtmlCell { class: "", content }
    }
}

/// The beginning of a table.
pub(super) fn begin_table(html: &mut String, headers: &[&str]) {
    *html += "<table>\n<thead><tr>";
    for header in headers {
        let _ = write!(html, "<th scope=\"col\">{header}</th>");
    }
    *html += "</tr></thead>\n<tbody>\n";
}

/// A row; its first cell is its header, and the others bear the header of their column, which a narrow page shows.
pub(super) fn add_row<const N: usize>(
    html: &mut String,
    class: &str,
    headers: &[&str; N],
    cells: [HtmlCell; N],
) {
    let _ = write!(html, "<tr{}>", attribute("class", class));
    for (column, (header, cell)) in headers.iter().zip(cells).enumerate() {
        let class = attribute("class", cell.class);
        let _ = match column {
            0 => write!(html, "<th scope=\"row\"{class}>{}</th>", cell.content),
            // An empty cell takes no room where cells are below each other.
            _ if cell.content.is_empty() => write!(html, "<td></td>"),
            _ => write!(html, "<td data-l=\"{header}\"{class}>{}</td>", cell.content),
        };
    }
    *html += "</tr>\n";
}

pub(super) fn end_table(html: &mut String) {
    *html += "</tbody>\n</table>\n";
}

fn attribute(name: &str, value: &str) -> String {
    if value.is_empty() { String::new() } else { format!(" {name}=\"{value}\"") }
}

/// Paragraphs of plain texts.
pub(super) fn paragraphs(texts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    texts.into_iter().map(|text| format!("<p>{}</p>", escaped(text.as_ref()))).collect()
}

/// A string with the characters that are special in HTML replaced by references.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            other => safe.push(other),
        }
    }
    safe
}
