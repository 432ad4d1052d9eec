//! The syntax of systemd's units (systemd.syntax(7)).

/// The lines of a unit: without comments, and each with those that continue it.
pub fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut continued = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        // Two are one that is part of the value.
        let backslashes = line.len() - line.trim_end_matches('\\').len();
        if backslashes % 2 == 1 {
            continued += &line[..line.len() - 1];
            continued.push(' ');
            continue;
        }
        continued += line;
        lines.push(std::mem::take(&mut continued));
    }
    lines.push(continued);
    lines.retain(|line| !line.trim().is_empty());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_no_lines_and_a_backslash_continues_one() {
        let text = "# a \\\n[Service]\nExecStart=x \\\n; b\n  y\nA=1\\\\\nB=2 \\";
        assert_eq!(logical_lines(text), ["[Service]", "ExecStart=x  y", "A=1\\\\", "B=2  "]);
    }
}
