//! Draws the state into the cells of a screen of any size.

use afd_model::HealthState;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::Span,
};

use super::{
    columns::{MAX_DEVICE_WIDTH, TopColumn, columns},
    rows::TopRow,
    state::{TopPanel, TopState},
};
use crate::live::{LiveReport, format::LiveValue};

/// Eighths of a cell.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Before the name of a partition.
const INDENT: &str = "  ";

const HELP: &str = "q, Esc    end\n\
                    up, down  select a device (also k and j, PgUp, PgDn, Home, End)\n\
                    s         sort by the next column: device, utilization, memory, power, temperature, health\n\
                    r         reverse the order\n\
                    /         show only what contains a text; Esc shows all\n\
                    p         next panel: the selected device, llm-d paths, what could not be read, none\n\
                    ?         this help; any key closes it\n\n\
                    A dash is a value that is not known; the panel of the device has the reason.";

/// Draws the state.
pub fn draw(state: &mut TopState, area: Rect, buffer: &mut Buffer) {
    let mut screen = Screen { buffer, area, color: state.color };
    if area.width < 20 || area.height < 5 {
        screen.line(0, "too small", Style::new());
        return;
    }
    let last = area.height - 1;
    screen.title(state);
    screen.status(1, state);
    let footer = if state.is_editing {
        format!("filter: {}_   Enter: apply   Esc: show all", state.filter)
    } else {
        let order = if state.is_reversed { ", reversed" } else { "" };
        let filter = if state.filter.is_empty() { String::new() } else { format!(" ({})", state.filter) };
        let (sort, panel) = (state.sort.title(), state.panel.title());
        format!("q end  s sort: {sort}{order}  / filter{filter}  p panel: {panel}  ? help")
    };
    screen.line(last, &footer, screen.quiet());
    if state.shows_help {
        screen.text(2, last, HELP);
        return;
    }
    let rows = state.rows();
    let (number, selected) = (rows.len(), state.selected.min(rows.len().saturating_sub(1)));
    let panel = panel(state, rows.get(selected));
    // The panel gets what the table does not need, and a third of the screen in any case.
    let room = usize::from(last).saturating_sub(3);
    let panel_height = wrapped(&panel, area.width.into()).len();
    let panel_height = panel_height.min((room / 3).max(room.saturating_sub(number + 1)));
    let table_height = room.saturating_sub(panel_height + usize::from(panel_height > 0)).max(1);
    let offset = state.offset.clamp((selected + 1).saturating_sub(table_height), selected);
    screen.table(state, &rows[offset.min(number)..], selected - offset, table_height);
    let below = 3 + u16::try_from(table_height.min(number.max(1)) + 1).unwrap_or(u16::MAX);
    screen.text(below, last, &panel.join("\n"));
    (state.offset, state.selected, state.page) = (offset, selected, table_height);
}

/// The lines of the panel.
fn panel(state: &TopState, selected: Option<&TopRow<'_>>) -> Vec<String> {
    let Some(report) = &state.report else { return Vec::new() };
    match (state.panel, selected) {
        (TopPanel::Device, Some(row)) => device_panel(row),
        (TopPanel::Device | TopPanel::None, _) => Vec::new(),
        (TopPanel::Paths, _) => {
            let line = |path: &crate::live::LivePath| {
                let answer = path.ready.map_or("unknown", |ready| if ready { "yes" } else { "no" });
                format!("{}: {answer} {}", path.name, path.why.join("; "))
            };
            report.paths.iter().map(line).collect()
        }
        (TopPanel::Problems, _) if report.problems.is_empty() => vec!["Everything could be read.".to_owned()],
        (TopPanel::Problems, _) => report.problems.clone(),
    }
}

fn device_panel(row: &TopRow<'_>) -> Vec<String> {
    let facts = row.unit.map(|unit| unit.facts.join(", ")).unwrap_or_default();
    let mut lines = vec![format!("{} {} {facts}", row.key, row.name)];
    lines.extend(row.notes.iter().cloned());
    let Some(unit) = row.unit else { return lines };
    let unknown = LiveValue::ALL.iter().filter_map(|value| {
        let missing = value.of(&unit.values).missing()?;
        Some(format!("{} is not known: {}", value.title(), missing.explain()))
    });
    lines.extend(unknown);
    match &unit.pods {
        afd_model::Known::Value(pods) if !pods.is_empty() => {
            lines.push(format!("Held by {}", pods.join(", ")))
        }
        afd_model::Known::Value(_) => {}
        afd_model::Known::Missing { .. } => lines.push("Which pods hold it is not reported".to_owned()),
    }
    lines
}

/// The cells, and where they are.
struct Screen<'b> {
    buffer: &'b mut Buffer,
    area: Rect,
    color: bool,
}

impl Screen<'_> {
    /// A style of this colour, where colours are used.
    fn colored(&self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    fn quiet(&self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn of_health(&self, state: HealthState) -> Style {
        match state {
            HealthState::Healthy => self.colored(Color::Green),
            HealthState::Degraded => self.colored(Color::Yellow),
            HealthState::Failed => self.colored(Color::Red).add_modifier(Modifier::BOLD),
            HealthState::Unknown => Style::new(),
        }
    }

    /// Writes a text into cells of a line; one that does not fit ends with an ellipsis. Returns the width that it takes.
    fn put(&mut self, x: usize, y: u16, width: usize, text: &str, style: Style) -> usize {
        let width = width.min(usize::from(self.area.width).saturating_sub(x));
        if y >= self.area.height || width == 0 {
            return 0;
        }
        let column = self.area.x + u16::try_from(x).unwrap_or(u16::MAX);
        let fits = Span::raw(text).width() <= width;
        let own = if fits { width } else { width - 1 };
        let (end, _) = self.buffer.set_stringn(column, self.area.y + y, text, own, style);
        if !fits {
            self.buffer.set_stringn(end, self.area.y + y, "…", 1, style);
        }
        usize::from(end - column) + usize::from(!fits)
    }

    fn line(&mut self, y: u16, text: &str, style: Style) {
        self.put(0, y, self.area.width.into(), text, style);
    }

    /// Wrapped lines from `y` on, above `end`.
    fn text(&mut self, y: u16, end: u16, text: &str) {
        let lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
        for (line, y) in wrapped(&lines, self.area.width.into()).iter().zip(y..end) {
            self.line(y, line, Style::new());
        }
    }

    fn title(&mut self, state: &TopState) {
        let width = usize::from(self.area.width);
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let age = state.age().map(|age| format!("{} s ago", age.as_secs())).unwrap_or_default();
        let room = width.saturating_sub(age.len() + 1);
        let name = state.report.as_ref().and_then(|report| report.node.as_deref()).unwrap_or("afd top");
        let mut x = self.put(0, 0, room, name, bold);
        for (health, text) in state.report.iter().flat_map(LiveReport::summary) {
            let style = health.map_or_else(Style::new, |health| self.of_health(health));
            x += 2;
            x += self.put(x, 0, room.saturating_sub(x), &text, style);
        }
        self.put(room + 1, 0, width, &age, self.quiet());
    }

    /// An error, or the conditions, or where the values come from.
    fn status(&mut self, y: u16, state: &TopState) {
        let stale = state.report.as_ref().zip(state.age()).filter(|(report, age)| {
            report.stale_after_seconds > 0.0 && age.as_secs_f64() > report.stale_after_seconds
        });
        let alarm = self.colored(Color::Red).add_modifier(Modifier::BOLD);
        if let Some(error) = &state.error {
            return self.line(y, error, alarm);
        }
        if let Some((_, age)) = stale {
            let text = format!("The agent's loop is stuck: these values are {} s old", age.as_secs());
            return self.line(y, &text, alarm);
        }
        let Some(report) = &state.report else {
            return self.line(y, &format!("waiting for {}", state.source), self.quiet());
        };
        let conditions = report.conditions.iter();
        let conditions: Vec<String> =
            conditions.map(|own| format!("{}: {} ({})", own.kind, own.status, own.reason)).collect();
        let mut text = format!("from {}", state.source);
        if !conditions.is_empty() {
            text = format!("{}  {text}", conditions.join("  "));
        }
        self.line(y, &text, Style::new());
    }

    fn table(&mut self, state: &TopState, rows: &[TopRow<'_>], selected: usize, height: usize) {
        let columns = columns(self.area.width.into(), width_of_devices(state));
        let header = Style::new().add_modifier(Modifier::REVERSED);
        self.line(2, &" ".repeat(self.area.width.into()), header);
        for (column, x, width) in &columns {
            let indent = if column.is_number() { width.saturating_sub(column.title().len()) } else { 0 };
            self.put(x + indent, 2, width - indent, column.title(), header);
        }
        if rows.is_empty() && state.report.is_some() {
            let text = if state.filter.is_empty() {
                "No accelerators found."
            } else {
                "Nothing contains this text."
            };
            return self.line(3, text, Style::new());
        }
        for (index, row) in rows.iter().take(height).enumerate() {
            let y = 3 + u16::try_from(index).unwrap_or(u16::MAX);
            for (column, x, width) in &columns {
                let (text, style) = self.cell(state, row, *column, *width);
                let style = if index == selected { style.add_modifier(Modifier::BOLD) } else { style };
                let free = width.saturating_sub(Span::raw(&*text).width());
                let indent = if column.is_number() { free } else { 0 };
                self.put(x + indent, y, width - indent, &text, style);
            }
            if index == selected {
                let line = Rect { x: self.area.x, y: self.area.y + y, width: self.area.width, height: 1 };
                self.buffer.set_style(line, Style::new().add_modifier(Modifier::UNDERLINED));
            }
        }
    }

    fn cell(&self, state: &TopState, row: &TopRow<'_>, column: TopColumn, width: usize) -> (String, Style) {
        let plain = Style::new();
        match column {
            TopColumn::Device if row.is_partition => (format!("{INDENT}{}", row.id), plain),
            TopColumn::Device => (row.id.to_owned(), plain),
            TopColumn::Product => (row.name.to_owned(), plain),
            TopColumn::Health => match (row.health, row.unit) {
                (Some(health), None) => ("missing".to_owned(), self.of_health(health)),
                (Some(health), Some(_)) => (health.as_str().to_owned(), self.of_health(health)),
                (None, _) => (String::new(), plain),
            },
            TopColumn::Value(value) => {
                let text = row.unit.and_then(|unit| value.short(&unit.values));
                (text.unwrap_or_else(|| "-".to_owned()), plain)
            }
            TopColumn::History(value) => (sparkline(state, row, value, width), self.colored(Color::Blue)),
            TopColumn::Pods => (row.pods(), plain),
        }
    }
}

/// The width of the longest name of a device or partition that fits, whichever rows are shown.
fn width_of_devices(state: &TopState) -> usize {
    let Some(report) = &state.report else { return 0 };
    let missing = report.missing.iter().map(|missing| Span::raw(&missing.id).width());
    let present = report.devices.iter().flat_map(|device| {
        let partitions = device.partitions.iter();
        let partitions = partitions.map(|partition| INDENT.len() + Span::raw(&partition.id).width());
        partitions.chain([Span::raw(&device.id).width()])
    });
    missing.chain(present).filter(|width| *width <= MAX_DEVICE_WIDTH).max().unwrap_or_default()
}

/// The last values as bars. A value that was not known is a space.
fn sparkline(state: &TopState, row: &TopRow<'_>, value: LiveValue, width: usize) -> String {
    let (Some(history), Some(unit)) = (state.history(&row.key, value), row.unit) else {
        return String::new();
    };
    let most = || history.iter().flatten().copied().fold(0.0, f64::max);
    let limit = value.limit(&unit.values).unwrap_or_else(most);
    let bar = |value: &Option<f64>| match value {
        Some(value) if limit > 0.0 => BARS[((value / limit * 8.0).clamp(0.0, 7.0)) as usize],
        Some(_) => BARS[0],
        None => ' ',
    };
    let bars: String = history.iter().skip(history.len().saturating_sub(width)).map(bar).collect();
    format!("{bars:>width$}")
}

/// Lines that fit a width, broken between words where that is possible.
fn wrapped(lines: &[String], width: usize) -> Vec<String> {
    let mut fitting = Vec::new();
    for line in lines {
        let mut rest = line.trim_end();
        while Span::raw(rest).width() > width {
            let mut taken = 0;
            let mut at = rest.len();
            for (index, character) in rest.char_indices() {
                taken += Span::raw(&rest[index..index + character.len_utf8()]).width();
                if taken > width {
                    at = index.max(1);
                    break;
                }
            }
            let end = rest[..at].rfind(' ').filter(|end| *end > 0).unwrap_or(at);
            fitting.push(rest[..end].to_owned());
            rest = rest[end..].trim_start();
        }
        fitting.push(rest.to_owned());
    }
    fitting
}

#[cfg(test)]
mod tests;
