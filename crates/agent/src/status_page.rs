//! The status page at `/`: what is wrong, devices with their present values and a short history, paths, and a drawing of the
//! topology.
//!
//! Self-contained HTML: no external script, image, style or font, and a policy by which the browser runs and requests nothing
//! else. The part that changes with each sample is served at `/live.html` as well, where the script of the page reads it and keeps
//! the history. Without a script the page shows the values of the time when it was read. Every string that comes from the node is
//! escaped.

mod html;
mod part;

use afd_model::Inventory;
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

use self::html::escaped;
pub use self::part::part;
use crate::topology;

/// The style and the script, without the lines that are only for readers.
const STYLE: &str = include_str!("status_page/page.css");
const SCRIPT: &str = include_str!("status_page/page.js");

/// What surrounds the part of the page that changes with each sample.
#[derive(Clone, Debug)]
pub struct PageFrame {
    /// What is before the part.
    pub head: String,
    /// What is after it.
    pub tail: String,
    /// The Content-Security-Policy of the page.
    pub policy: String,
}

impl PageFrame {
    /// The frame of a node; `node` is its name, if it has one.
    pub fn new(inventory: &Inventory, node: Option<&str>) -> PageFrame {
        let title = node
            .map_or_else(|| "Accelerators".to_owned(), |node| format!("Accelerators of {}", escaped(node)));
        let (style, script) = (compact(STYLE), compact(SCRIPT));
        let drawing = topology::svg::draw(inventory);
        // The script replaces the time of the sample by its age.
        let head = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
             <style>{style}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n<p id=\"age\"></p>\n</header>\n"
        );
        let tail = format!(
            "<section>\n<h2>Topology</h2>\n<div class=\"wide\">\n{drawing}</div>\n</section>\n<footer>\n\
             <p>Also here: <a href=\"metrics\">metrics</a>, <a href=\"inventory\">inventory</a>, \
             <a href=\"live\">this page as JSON</a>, <a href=\"compat/dcgm\">metrics of dcgm-exporter</a>, \
             <a href=\"healthz\">health of the agent</a>.</p>\n\
             </footer>\n<script>{script}</script>\n</body>\n</html>\n"
        );
        let styles: Vec<String> = [style.as_str()].into_iter().chain(styles(&drawing)).map(source).collect();
        let policy = format!(
            "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            source(&script),
            styles.join(" ")
        );
        PageFrame { head, tail, policy }
    }
}

/// The code without indentation and lines of comments.
fn compact(code: &str) -> String {
    let lines = code.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The content of the style elements of a drawing. Strings of the node are escaped, so that there is none in them.
fn styles(drawing: &str) -> impl Iterator<Item = &str> {
    drawing.split("<style>").skip(1).filter_map(|rest| Some(rest.split_once("</style>")?.0))
}

/// The content of an element as a source in the policy.
fn source(content: &str) -> String {
    format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(content)))
}

#[cfg(test)]
mod tests;
