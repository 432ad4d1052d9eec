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

/// The widest cell of a column that is not the last one. What others have written, such as a reason in an annotation, may be of
/// any length.
const MAX_CELL: usize = 120;

/// Writes rows in columns that are as wide as their widest cell, the last one as it is. The cells of a row are made twice, and never
/// those of all rows together: there may be many.
pub(crate) fn write_columns(
    output: &mut dyn Write,
    header: &[&str],
    rows: usize,
    cells: &dyn Fn(usize) -> Vec<String>,
) -> std::io::Result<()> {
    let header: Vec<String> = header.iter().map(|title| (*title).to_owned()).collect();
    let width = |cell: &String| cell.chars().count().min(MAX_CELL);
    let mut widths: Vec<usize> = header.iter().map(width).collect();
    for row in 0..rows {
        widths.iter_mut().zip(&cells(row)).for_each(|(widest, cell)| *widest = width(cell).max(*widest));
    }
    let mut write = |cells: &[String]| {
        let mut line = String::new();
        for (index, (cell, widest)) in cells.iter().zip(&widths).enumerate() {
            if index + 1 == cells.len() {
                line += cell;
            } else if cell.chars().count() > MAX_CELL {
                line.extend(cell.chars().take(MAX_CELL - 1).chain("\u{2026}  ".chars()));
            } else {
                line += &format!("{cell:widest$}  ");
            }
        }
        writeln!(output, "{}", line.trim_end())
    };
    write(&header)?;
    (0..rows).try_for_each(|row| write(&cells(row)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_of_any_length_breaks_no_table() {
        let long = "x".repeat(100_000);
        let rows = [[long.as_str(), "1", long.as_str()], ["a", "22", "b"]];
        let mut output = Vec::new();
        let cells = |row: usize| rows[row].map(str::to_owned).to_vec();
        write_columns(&mut output, &["A", "B", "C"], rows.len(), &cells).expect("a vector takes all");
        let text = String::from_utf8(output).expect("it is text");
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].starts_with(&"x".repeat(MAX_CELL - 1))
                && lines[1].ends_with(&format!("\u{2026}  1   {long}"))
        );
        assert_eq!(lines[2], format!("a{}  22  b", " ".repeat(MAX_CELL - 1)));
    }
}
