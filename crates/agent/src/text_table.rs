//! Tables of text on the terminal.

use std::io::Write;

use comfy_table::{ContentArrangement, Table, presets};

/// How text on the terminal is formatted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TextStyle {
    /// Whether the output is a terminal, whose width is then used.
    terminal: bool,
    color: bool,
}

impl TextStyle {
    /// For a terminal or not. Terminals get colours unless the user disables them (<https://no-color.org>).
    pub fn new(terminal: bool, no_color: bool) -> TextStyle {
        TextStyle { terminal, color: terminal && !no_color }
    }

    /// Whether the output is a terminal.
    pub(crate) fn is_terminal(self) -> bool {
        self.terminal
    }

    /// Whether colours are used.
    pub(crate) fn color(self) -> bool {
        self.color
    }
}

/// A table without borders.
pub(crate) fn new_table<const N: usize>(style: TextStyle, header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    if style.terminal {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.force_no_tty().set_content_arrangement(ContentArrangement::Disabled);
    }
    table
}

/// Writes rows in columns that are as wide as their widest cell. The cells of a row are made twice, and never those of all rows
/// together: there may be many.
pub(crate) fn write_columns(
    output: &mut dyn Write,
    header: &[&str],
    rows: usize,
    cells: &dyn Fn(usize) -> Vec<String>,
) -> std::io::Result<()> {
    let header: Vec<String> = header.iter().map(|title| (*title).to_owned()).collect();
    let width = |cell: &String| cell.chars().count();
    let mut widths: Vec<usize> = header.iter().map(width).collect();
    for row in 0..rows {
        widths.iter_mut().zip(&cells(row)).for_each(|(widest, cell)| *widest = width(cell).max(*widest));
    }
    let mut write = |cells: &[String]| {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            line += &format!("{cell:width$}  ");
        }
        writeln!(output, "{}", line.trim_end())
    };
    write(&header)?;
    (0..rows).try_for_each(|row| write(&cells(row)))
}
