//! Tables of text on the terminal.

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
