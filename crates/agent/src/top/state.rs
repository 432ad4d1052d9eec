//! What the screen shows, as it follows from reports and keys.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::{
    rows::{self, TopRow},
    source::{SourcedReport, TopEvent},
};
use crate::live::{LiveReport, LiveUnit, format::LiveValue};

/// How many values of the past are kept of each unit.
const HISTORY: usize = 120;

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SortKey {
    Device,
    Health,
    Value(LiveValue),
}

impl SortKey {
    const ALL: [SortKey; 6] = [
        SortKey::Device,
        SortKey::Value(LiveValue::Utilization),
        SortKey::Value(LiveValue::Memory),
        SortKey::Value(LiveValue::Power),
        SortKey::Value(LiveValue::Temperature),
        SortKey::Health,
    ];

    /// Its name.
    pub(super) fn title(self) -> String {
        match self {
            SortKey::Device => "device".to_owned(),
            SortKey::Health => "health".to_owned(),
            SortKey::Value(value) => value.title().to_lowercase(),
        }
    }
}

/// What is shown below the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TopPanel {
    /// All that is known of the selected device.
    Device,
    /// llm-d's paths.
    Paths,
    /// What could not be read.
    Problems,
    /// Nothing.
    None,
}

impl TopPanel {
    /// Its name.
    pub(super) fn title(self) -> &'static str {
        match self {
            TopPanel::Device => "device",
            TopPanel::Paths => "paths",
            TopPanel::Problems => "problems",
            TopPanel::None => "none",
        }
    }
}

/// A key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TopKey {
    /// A character.
    Char(char),
    /// Ctrl and C, which ends the program wherever it is.
    Interrupt,
    /// Enter.
    Enter,
    /// Escape.
    Escape,
    /// Backspace.
    Backspace,
    /// By so many rows.
    Move(i32),
    /// By so many pages.
    Page(i32),
    /// To the first row.
    First,
    /// To the last row.
    Last,
}

/// The values of the past of one unit, by [`LiveValue::ALL`].
type UnitHistory = [VecDeque<Option<f64>>; 4];

/// What the screen shows.
#[derive(Debug)]
pub struct TopState {
    pub(super) source: String,
    pub(super) color: bool,
    pub(super) report: Option<LiveReport>,
    /// When the values of the report were read, as far as this program knows.
    pub(super) read_at: Option<Instant>,
    pub(super) error: Option<String>,
    history: BTreeMap<String, UnitHistory>,
    pub(super) sort: SortKey,
    pub(super) is_reversed: bool,
    pub(super) filter: String,
    pub(super) is_editing: bool,
    pub(super) shows_help: bool,
    pub(super) panel: TopPanel,
    pub(super) selected: usize,
    /// The first row that is visible. The screen corrects it.
    pub(super) offset: usize,
    /// How many rows the screen has room for.
    pub(super) page: usize,
    has_ended: bool,
}

impl TopState {
    /// Nothing is known yet. `source` is where reports come from.
    pub fn new(source: String, color: bool) -> TopState {
        TopState {
            source,
            color,
            report: None,
            read_at: None,
            error: None,
            history: BTreeMap::new(),
            sort: SortKey::Device,
            is_reversed: false,
            filter: String::new(),
            is_editing: false,
            shows_help: false,
            panel: TopPanel::Device,
            selected: 0,
            offset: 0,
            page: 10,
            has_ended: false,
        }
    }

    /// Whether the program is to end.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// How old the values are.
    pub(super) fn age(&self) -> Option<Duration> {
        self.read_at.map(|at| at.elapsed())
    }

    /// The rows of the table.
    pub(super) fn rows(&self) -> Vec<TopRow<'_>> {
        let rows = |report| rows::rows(report, &self.filter, self.sort, self.is_reversed);
        self.report.as_ref().map(rows).unwrap_or_default()
    }

    /// The values of the past of a unit.
    pub(super) fn history(&self, key: &str, value: LiveValue) -> Option<&VecDeque<Option<f64>>> {
        let index = LiveValue::ALL.iter().position(|own| *own == value)?;
        self.history.get(key).map(|unit| &unit[index])
    }

    /// Takes in an observation.
    pub fn observe(&mut self, observation: TopEvent) {
        match observation {
            TopEvent::Report(read) => self.take(*read),
            TopEvent::Failed(error) => self.error = Some(error),
            TopEvent::End => self.has_ended = true,
        }
    }

    fn take(&mut self, read: SourcedReport) {
        let SourcedReport { report, age } = read;
        let is_new = self.report.as_ref().is_none_or(|last| last.sampled_at != report.sampled_at);
        self.error = None;
        self.read_at = Instant::now().checked_sub(age);
        if is_new {
            self.remember(&report);
        }
        self.report = Some(report);
    }

    /// Adds the values of a sample to the history. Units that are gone have none.
    fn remember(&mut self, report: &LiveReport) {
        let mut last = std::mem::take(&mut self.history);
        let mut add = |key: String, unit: &LiveUnit| {
            let mut history = last.remove(&key).unwrap_or_default();
            for (values, value) in history.iter_mut().zip(LiveValue::ALL) {
                values.push_back(value.of(&unit.values).into_value());
                if values.len() > HISTORY {
                    values.pop_front();
                }
            }
            self.history.insert(key, history);
        };
        for device in &report.devices {
            add(device.id.clone(), device);
            for partition in &device.partitions {
                add(format!("{}/{}", device.id, partition.id), partition);
            }
        }
    }

    /// Takes in a key.
    pub fn press(&mut self, key: TopKey) {
        match key {
            TopKey::Interrupt => self.has_ended = true,
            _ if self.is_editing => self.edit(key),
            // Any key closes the help.
            _ if self.shows_help => self.shows_help = false,
            TopKey::Char('q') => self.has_ended = true,
            TopKey::Escape if self.filter.is_empty() => self.has_ended = true,
            TopKey::Escape => self.filter.clear(),
            TopKey::Char('?' | 'h') => self.shows_help = true,
            TopKey::Char('/' | 'f') => self.is_editing = true,
            TopKey::Char('r') => self.is_reversed = !self.is_reversed,
            TopKey::Char('s') => {
                let index = SortKey::ALL.iter().position(|key| *key == self.sort).unwrap_or_default();
                self.sort = SortKey::ALL[(index + 1) % SortKey::ALL.len()];
            }
            TopKey::Char('p') => {
                self.panel = match self.panel {
                    TopPanel::Device => TopPanel::Paths,
                    TopPanel::Paths => TopPanel::Problems,
                    TopPanel::Problems => TopPanel::None,
                    TopPanel::None => TopPanel::Device,
                };
            }
            TopKey::Char('j') => self.go(1),
            TopKey::Char('k') => self.go(-1),
            TopKey::Move(rows) => self.go(i64::from(rows)),
            TopKey::Page(pages) => self.go(i64::from(pages) * self.page.max(1) as i64),
            TopKey::First => self.selected = 0,
            TopKey::Last => self.go(i64::MAX),
            TopKey::Char(_) | TopKey::Enter | TopKey::Backspace => {}
        }
    }

    /// A key while the filter is written.
    fn edit(&mut self, key: TopKey) {
        match key {
            TopKey::Char(character) if !character.is_control() && self.filter.len() < 64 => {
                self.filter.push(character);
            }
            TopKey::Backspace => _ = self.filter.pop(),
            TopKey::Enter => self.is_editing = false,
            TopKey::Escape => {
                self.filter.clear();
                self.is_editing = false;
            }
            _ => {}
        }
        self.selected = 0;
    }

    fn go(&mut self, rows: i64) {
        let last = self.rows().len().saturating_sub(1) as i64;
        let selected = (self.selected as i64).saturating_add(rows).clamp(0, last);
        self.selected = usize::try_from(selected).unwrap_or_default();
    }
}
