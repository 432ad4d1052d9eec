//! The part of the page that changes with each sample.

use std::{collections::BTreeMap, fmt::Write};

use afd_model::{
    HealthReason, HealthState, Known,
    reason::{self, ReasonClass, ReasonRow},
};

use super::html::{HtmlCell, add_row, begin_table, end_table, escaped, paragraphs};
use crate::{
    args::DocsUrl,
    live::{LiveReport, LiveUnit, format::LiveValue},
};

const DEVICE_HEADERS: [&str; 7] =
    ["Device", "Health", "Utilization", "Memory", "Power", "Temperature", "Held by"];

/// The part as an element. `docs` is where reasons are documented.
pub fn part(report: &LiveReport, docs: Option<&DocsUrl>) -> String {
    let mut part = PagePart { html: String::with_capacity(8 * 1024), docs, reasons: BTreeMap::new() };
    let time = report.sampled_at.map(|time| time.to_string()).unwrap_or_default();
    let _ = writeln!(
        part.html,
        "<main data-t=\"{time}\" data-i=\"{}\" data-s=\"{}\">",
        report.interval_seconds, report.stale_after_seconds
    );
    part.add_summary(report);
    part.add_conditions(report);
    part.add_devices(report);
    part.add_missing(report);
    part.add_problems(report);
    part.add_paths(report);
    part.add_reasons();
    part.html += "</main>\n";
    part.html
}

/// The element while it is written.
struct PagePart<'t> {
    html: String,
    docs: Option<&'t DocsUrl>,
    /// The reasons that occur, with their rows.
    reasons: BTreeMap<String, &'static ReasonRow>,
}

impl PagePart<'_> {
    fn add_summary(&mut self, report: &LiveReport) {
        self.html += "<p class=\"sum\">";
        for (state, text) in report.summary() {
            let _ = write!(self.html, "<b class=\"{}\">{text}</b>", state.map_or("", health_class));
        }
        if let Some(time) = report.sampled_at.and_then(|time| jiff::Timestamp::from_second(time as i64).ok())
        {
            let _ = write!(self.html, "<time class=\"quiet\" datetime=\"{time}\">sampled at {time}</time>");
        }
        self.html += "</p>\n";
    }

    fn add_conditions(&mut self, report: &LiveReport) {
        if report.conditions.is_empty() {
            return;
        }
        const HEADERS: [&str; 3] = ["Condition", "Status", "Reason"];
        self.html += "<h2>Conditions</h2>\n";
        begin_table(&mut self.html, &HEADERS);
        for condition in &report.conditions {
            let class = match (condition.kind == "Problem", condition.status.as_str()) {
                (false, "True") | (true, "False") => "good",
                (false, "False") | (true, "True") => "bad",
                _ => "unknown",
            };
            let reason = self.reason(&condition.reason, &condition.message);
            let cells = [
                HtmlCell::new(escaped(&condition.kind)),
                HtmlCell::new(format!("<span class=\"{class}\">{}</span>", escaped(&condition.status))),
                HtmlCell::new(reason),
            ];
            add_row(&mut self.html, "", &HEADERS, cells);
        }
        end_table(&mut self.html);
    }

    fn add_devices(&mut self, report: &LiveReport) {
        self.html += "<h2>Devices</h2>\n";
        if report.devices.is_empty() {
            self.html += "<p>No accelerators found.</p>\n";
            return;
        }
        begin_table(&mut self.html, &DEVICE_HEADERS);
        for device in &report.devices {
            self.add_unit(device, None);
            device.partitions.iter().for_each(|partition| self.add_unit(partition, Some(device)));
        }
        end_table(&mut self.html);
    }

    /// The row of a device, or of a partition of one.
    fn add_unit(&mut self, unit: &LiveUnit, device: Option<&LiveUnit>) {
        let key = match device {
            Some(device) => format!("{}/{}", device.id, unit.id),
            None => unit.id.clone(),
        };
        let mut name = format!("<span class=\"id\">{}</span>", escaped(&unit.id));
        for line in [&unit.name, &unit.facts.join(", ")].into_iter().filter(|line| !line.is_empty()) {
            let _ = write!(name, "<small>{}</small>", escaped(line));
        }
        let [utilization, memory, power, temperature] =
            LiveValue::ALL.map(|value| value_cell(unit, &key, value));
        let cells = [
            HtmlCell::new(name),
            HtmlCell::new(self.health(unit.health, &unit.reasons)),
            utilization,
            memory,
            power,
            temperature,
            HtmlCell::new(holders(unit)),
        ];
        add_row(&mut self.html, if device.is_some() { "part" } else { "" }, &DEVICE_HEADERS, cells);
    }

    fn health(&mut self, state: Option<HealthState>, reasons: &[HealthReason]) -> String {
        let Some(state) = state else { return String::new() };
        let mut text = format!("<span class=\"{}\">{}</span>", health_class(state), state.as_str());
        for reason in reasons {
            text += &self.reason(&reason.code, &reason.message);
        }
        text
    }

    fn add_missing(&mut self, report: &LiveReport) {
        if report.missing.is_empty() {
            return;
        }
        const HEADERS: [&str; 2] = ["Missing device", "Why"];
        self.html += "<h2>Missing devices</h2>\n";
        begin_table(&mut self.html, &HEADERS);
        for missing in &report.missing {
            let product = missing.product.as_deref().map(escaped).unwrap_or_default();
            let name = format!("{}<small>{product}</small>", escaped(&missing.id));
            let why = self.reason("DeviceMissing", &missing.message);
            add_row(&mut self.html, "", &HEADERS, [HtmlCell::new(name), HtmlCell::new(why)]);
        }
        end_table(&mut self.html);
    }

    fn add_problems(&mut self, report: &LiveReport) {
        if report.problems.is_empty() {
            return;
        }
        let link = self.docs_link("alerts", "acceleratorprobeproblems");
        let _ = write!(self.html, "<h2>Not readable</h2>\n<p>{link}</p>\n<ul>\n");
        for problem in &report.problems {
            let _ = writeln!(self.html, "<li>{}</li>", escaped(problem));
        }
        self.html += "</ul>\n";
    }

    fn add_paths(&mut self, report: &LiveReport) {
        const HEADERS: [&str; 3] = ["Path", "Ready", "Why"];
        self.html += "<h2>llm-d paths</h2>\n";
        begin_table(&mut self.html, &HEADERS);
        for path in &report.paths {
            let (class, answer) = match path.ready {
                Some(true) => ("good", "yes"),
                Some(false) => ("bad", "no"),
                None => ("unknown", "unknown"),
            };
            let name = escaped(&path.name);
            let name = match self.docs {
                Some(docs) => {
                    let anchor = heading_anchor(&format!("path.{}: {}", path.name, path.title));
                    format!("<a href=\"{}\">{name}</a>", escaped(&docs.place("paths", &anchor)))
                }
                None => name,
            };
            let answer = format!("<span class=\"{class}\">{answer}</span>");
            let cells = [name, answer, paragraphs(&path.why)].map(HtmlCell::new);
            add_row(&mut self.html, "", &HEADERS, cells);
        }
        end_table(&mut self.html);
    }

    /// A reason with its message, and a link to what it means.
    fn reason(&mut self, code: &str, message: &str) -> String {
        let name = escaped(code);
        // That nothing is wrong needs no explanation.
        let listed = reason::row_of(code).filter(|row| row.class != ReasonClass::Fine);
        let Some(row) = listed else {
            return format!("<p>{name}: {}</p>", escaped(message));
        };
        self.reasons.insert(row.code.to_owned(), row);
        let anchor = reason::anchor(row.code);
        let place = match self.docs {
            Some(docs) => escaped(&docs.place("conditions", &anchor)),
            None => format!("#{anchor}"),
        };
        format!("<p><a href=\"{place}\">{name}</a>: {}</p>", escaped(message))
    }

    /// What the reasons mean that occur, so that this can be read without the documentation.
    fn add_reasons(&mut self) {
        if self.reasons.is_empty() {
            return;
        }
        self.html += "<h2>Reasons</h2>\n<dl>\n";
        for (code, row) in &self.reasons {
            let _ = writeln!(
                self.html,
                "<dt id=\"{}\">{}</dt><dd>{}. What to do: {}.</dd>",
                reason::anchor(code),
                escaped(code),
                escaped(row.meaning),
                escaped(row.action),
            );
        }
        self.html += "</dl>\n";
    }

    fn docs_link(&self, page: &str, anchor: &str) -> String {
        let place = self.docs.map(|docs| escaped(&docs.place(page, anchor)));
        place.map(|place| format!("<a href=\"{place}\">What to do</a>")).unwrap_or_default()
    }
}

/// The present value and the place of its history; a dash and the reason where it is not known.
fn value_cell(unit: &LiveUnit, key: &str, value: LiveValue) -> HtmlCell {
    let content = match (value.of(&unit.values), value.text(&unit.values)) {
        (Known::Value(number), Some(text)) => {
            let limit = value.limit(&unit.values).map(|limit| format!(" data-m=\"{limit}\""));
            format!(
                "{text}<svg class=\"spark\" data-k=\"{} {}\" data-v=\"{number}\"{} viewBox=\"-1 0 61 20\" \
                 preserveAspectRatio=\"none\" aria-hidden=\"true\"><path/></svg>",
                escaped(key),
                value.title(),
                limit.unwrap_or_default()
            )
        }
        (known, _) => {
            let why = known.missing().map_or("", |missing| missing.explain());
            format!("–<small>{why}</small>")
        }
    };
    HtmlCell { class: "num", content }
}

fn holders(unit: &LiveUnit) -> String {
    match &unit.pods {
        Known::Value(pods) => paragraphs(pods),
        Known::Missing { .. } => "–<small>not reported</small>".to_owned(),
    }
}

fn health_class(state: HealthState) -> &'static str {
    match state {
        HealthState::Healthy => "good",
        HealthState::Degraded => "poor",
        HealthState::Failed => "bad",
        HealthState::Unknown => "unknown",
    }
}

/// The anchor of a heading, as GitHub and mdBook make it.
fn heading_anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}
