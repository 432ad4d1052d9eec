//! One table of the devices, for pipes and `--once`.

use std::{collections::BTreeMap, fmt::Write};

use afd_model::HealthState;

use super::{
    rows::{self, TopRow},
    source::SourcedReport,
    state::SortKey,
};
use crate::{
    live::format::LiveValue,
    text_table::{TextStyle, new_table},
};

/// The devices, and below them what is wrong.
pub(super) fn table(read: &SourcedReport, style: TextStyle) -> String {
    let report = &read.report;
    let rows = rows::rows(report, "", SortKey::Device, false);
    let mut text = String::new();
    if rows.is_empty() {
        text += "No accelerators found.\n";
    } else {
        let mut table =
            new_table(style, ["DEVICE", "PRODUCT", "HEALTH", "UTIL", "MEMORY", "POWER", "TEMP", "HELD BY"]);
        for row in &rows {
            table.add_row(cells(row));
        }
        let _ = writeln!(text, "{}", table.trim_fmt());
    }
    let reasons = rows.iter().flat_map(|row| row.notes.iter().map(|note| format!("{} {note}", row.key)));
    section(&mut text, "Reasons", reasons);
    section(&mut text, "Not known", unknown(&rows).into_iter());
    let conditions = report.conditions.iter();
    let conditions =
        conditions.map(|own| format!("{} {} {}: {}", own.kind, own.status, own.reason, own.message));
    section(&mut text, "Conditions", conditions);
    section(&mut text, "Not readable", report.problems.iter().cloned());
    let age = read.age.as_secs_f64();
    if report.stale_after_seconds > 0.0 && age > report.stale_after_seconds {
        let _ = writeln!(text, "\nThe agent's loop is stuck: these values are {age:.0} s old.");
    }
    text
}

/// The values that are not known, with their reasons and where that is so.
fn unknown(rows: &[TopRow<'_>]) -> Vec<String> {
    let mut places: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for row in rows {
        for value in LiveValue::ALL {
            if let Some(missing) = row.unit.and_then(|unit| value.of(&unit.values).missing()) {
                places.entry((value.title(), missing.explain())).or_default().push(&row.key);
            }
        }
    }
    let line = |((value, why), keys): ((&str, &str), Vec<&str>)| match keys.as_slice() {
        [first, others @ ..] if others.len() > 1 => {
            format!("{value} of {first} and {} others: {why}", others.len())
        }
        keys => format!("{value} of {}: {why}", keys.join(" and ")),
    };
    places.into_iter().map(line).collect()
}

fn section(text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    for (index, line) in lines.enumerate() {
        if index == 0 {
            let _ = writeln!(text, "\n{title}:");
        }
        let _ = writeln!(text, "  {line}");
    }
}

fn cells(row: &TopRow<'_>) -> Vec<String> {
    let indent = if row.is_partition { "  " } else { "" };
    let health = match row.unit {
        Some(_) => row.health.map_or("", HealthState::as_str),
        None => "missing",
    };
    let mut cells = vec![format!("{indent}{}", row.id), row.name.to_owned(), health.to_owned()];
    for value in LiveValue::ALL {
        let text = row.unit.and_then(|unit| value.text(&unit.values));
        cells.push(text.unwrap_or_else(|| "-".to_owned()));
    }
    cells.push(row.pods());
    cells
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::expect;

    use super::*;
    use crate::live::tests::{inventory, report};

    #[test]
    fn a_table_has_everything_that_is_wrong_and_why_a_value_is_not_known() {
        let read = SourcedReport { report: report(&inventory()), age: Duration::from_secs(95) };
        let text = table(&read, TextStyle::new(false, true));
        expect![[r#"
             DEVICE        PRODUCT          HEALTH   UTIL  MEMORY               POWER        TEMP   HELD BY
             missing-1     Accelerator X80  missing  -     -                    -            -      -
             0000:19:00.0  Accelerator X80  healthy  35 %  20.0 GiB / 80.0 GiB  350 / 700 W  45 °C  serving/vllm-0
             0000:29:00.0  Accelerator X80  failed   -     -                    -            -
               gi3-ci0     1g.10gb                   -     -                    -            -

            Reasons:
              missing-1 DeviceMissing: was at 0000:39:00.0
              0000:29:00.0 GpuLost: the device has fallen off the bus; replace it

            Not known:
              Memory of 0000:29:00.0 and 0000:29:00.0/gi3-ci0: not exposed
              Power of 0000:29:00.0 and 0000:29:00.0/gi3-ci0: permission denied
              Temperature of 0000:29:00.0 and 0000:29:00.0/gi3-ci0: not exposed
              Utilization of 0000:29:00.0 and 0000:29:00.0/gi3-ci0: not exposed

            Conditions:
              Ready False GpuLost: 1 of 3 devices has failed

            Not readable:
              pci 0000:29:00.0 power_watts: /sys/power: permission denied

            The agent's loop is stuck: these values are 95 s old.
        "#]]
        .assert_eq(&text);
    }
}
