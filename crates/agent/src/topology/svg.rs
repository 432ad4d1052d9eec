//! The topology as a drawing.
//!
//! NUMA nodes are side by side, or one below the other if they do not fit; each contains boxes for its root ports, with
//! devices and NICs in them. Below is the table of paths. Every text is measured before its box is drawn, so that no text is
//! cut off.

use afd_model::Inventory;
use svg::{
    Document, Node,
    node::element::{Group, Rectangle, Style, Text, Title},
};

use super::{DevicePath, NumaGroup, PciePath, RootPortBranch, TopologyPlan, device_line, nic_line};

const MARGIN: f64 = 24.0;
const GAP: f64 = 12.0;
const LINE: f64 = 18.0;
const PAD: f64 = 10.0;
/// Width of a character: the font is monospaced, 13 px high.
const CHARACTER: f64 = 7.9;
/// Boxes are side by side up to this width.
const MAX_WIDTH: f64 = 1600.0;

const STYLE: &str = "text { font-family: 'DejaVu Sans Mono', Menlo, Consolas, monospace; font-size: 13px; fill: #1b1f24 } \
    .title { font-weight: bold } .quiet { fill: #57606a } .page { fill: #ffffff } \
    .numa { fill: #f6f8fa; stroke: #8c959f } .branch { fill: #ffffff; stroke: #c6cdd5 } \
    .device { fill: #ddf4ff; stroke: #0969da } .nic { fill: #fff8c5; stroke: #9a6700 } \
    .near { fill: #dafbe1; stroke: #c6cdd5 } .middle { fill: #f6f8fa; stroke: #c6cdd5 } .far { fill: #ffebe9; stroke: #c6cdd5 }";

/// Draws the node as an SVG document.
pub fn draw(inventory: &Inventory) -> String {
    let plan = TopologyPlan::new(inventory);
    let boxes: Vec<DrawnBox> = plan.numa_groups.iter().map(draw_numa_group).collect();
    let mut page = BoxFlow::new(MARGIN, MARGIN);
    let mut content = Group::new();
    for drawn in boxes {
        let (x, y) = page.place(drawn.width, drawn.height);
        content = content.add(drawn.at(x, y));
    }
    page.new_row();
    if plan.devices.is_empty() {
        let drawn = sentence("No accelerators found.");
        let (x, y) = page.place(drawn.width, drawn.height);
        content = content.add(drawn.at(x, y));
    } else if plan.devices.len() > 1 {
        let drawn = draw_paths(&plan);
        let (x, y) = page.place(drawn.width, drawn.height);
        content = content.add(drawn.at(x, y));
    }
    page.new_row();
    let (width, height) = (page.right + MARGIN, page.y - GAP + MARGIN);
    let document = Document::new()
        .set("width", width)
        .set("height", height)
        .set("viewBox", (0, 0, width, height))
        .set("role", "img")
        .add(Title::new("Accelerators of the node"))
        .add(Style::new(STYLE))
        .add(rectangle("page", width, height))
        .add(content);
    format!("{document}\n")
}

/// A drawing with its size, from its own top left corner.
struct DrawnBox {
    group: Group,
    width: f64,
    height: f64,
}

impl DrawnBox {
    fn at(self, x: f64, y: f64) -> Group {
        self.group.set("transform", format!("translate({x:.0} {y:.0})"))
    }
}

/// Places boxes side by side, and starts a new row when the page is full.
struct BoxFlow {
    left: f64,
    x: f64,
    y: f64,
    row_height: f64,
    right: f64,
}

impl BoxFlow {
    fn new(x: f64, y: f64) -> BoxFlow {
        BoxFlow { left: x, x, y, row_height: 0.0, right: x }
    }

    fn place(&mut self, width: f64, height: f64) -> (f64, f64) {
        if self.x > self.left && self.x + width > MAX_WIDTH {
            self.new_row();
        }
        let corner = (self.x, self.y);
        self.right = self.right.max(self.x + width);
        self.x += width + GAP;
        self.row_height = self.row_height.max(height);
        corner
    }

    fn new_row(&mut self) {
        if self.row_height > 0.0 {
            self.y += self.row_height + GAP;
        }
        self.x = self.left;
        self.row_height = 0.0;
    }
}

fn draw_numa_group(group: &NumaGroup<'_>) -> DrawnBox {
    let cpus = group.cpus.map(|cpus| format!("CPUs {cpus}"));
    stack("numa", Some(&group.title), cpus.as_deref(), group.branches.iter().map(draw_branch).collect())
}

fn draw_branch(branch: &RootPortBranch<'_>) -> DrawnBox {
    let devices =
        branch.devices.iter().map(|device| card("device", &[&device.id.to_string(), &device_line(device)]));
    let nics = branch.nics.iter().map(|nic| {
        let address = nic.pci_address.value().map(|address| format!(" {address}")).unwrap_or_default();
        card("nic", &[&format!("{}{address}", nic.name), &nic_line(nic)])
    });
    let title = branch.root_port.map(|port| format!("root port {port}"));
    row("branch", title.as_deref(), devices.chain(nics).collect())
}

/// Boxes one below the other in a frame with a title.
fn stack(class: &str, title: Option<&str>, subtitle: Option<&str>, inner: Vec<DrawnBox>) -> DrawnBox {
    let mut y = PAD;
    let mut widest: f64 = 0.0;
    let mut content = Group::new();
    for (text, class) in [(title, "title"), (subtitle, "quiet")] {
        if let Some(text) = text {
            content = content.add(line(class, text, PAD, y));
            widest = widest.max(text_width(text));
            y += LINE;
        }
    }
    y += PAD / 2.0;
    for drawn in inner {
        let (width, height) = (drawn.width, drawn.height);
        content = content.add(drawn.at(PAD, y));
        widest = widest.max(width);
        y += height + PAD;
    }
    framed(class, content, widest + 2.0 * PAD, y)
}

/// Boxes side by side in a frame with a title.
fn row(class: &str, title: Option<&str>, inner: Vec<DrawnBox>) -> DrawnBox {
    let mut content = Group::new();
    let mut top = PAD;
    let mut widest = 0.0;
    if let Some(title) = title {
        content = content.add(line("quiet", title, PAD, top));
        top += LINE;
        widest = text_width(title);
    }
    let (mut x, mut tallest) = (PAD, 0.0_f64);
    for drawn in inner {
        let (width, height) = (drawn.width, drawn.height);
        content = content.add(drawn.at(x, top));
        x += width + PAD;
        tallest = tallest.max(height);
    }
    framed(class, content, x.max(widest + 2.0 * PAD), top + tallest + PAD)
}

/// A box with lines of text, the first one bold.
fn card(class: &str, lines: &[&str]) -> DrawnBox {
    let mut content = Group::new();
    for (number, text) in lines.iter().enumerate() {
        let class = if number == 0 { "title" } else { "" };
        content = content.add(line(class, text, PAD, PAD / 2.0 + LINE * number as f64));
    }
    let widest = lines.iter().map(|text| text_width(text)).fold(0.0, f64::max);
    framed(class, content, widest + 2.0 * PAD, LINE * lines.len() as f64 + PAD)
}

fn sentence(text: &str) -> DrawnBox {
    DrawnBox { group: Group::new().add(line("", text, 0.0, 0.0)), width: text_width(text), height: LINE }
}

fn draw_paths(plan: &TopologyPlan<'_>) -> DrawnBox {
    const CELL: f64 = 66.0;
    let names: Vec<String> = plan
        .devices
        .iter()
        .enumerate()
        .map(|(index, device)| format!("{:>2} {}", index + 1, device.id))
        .collect();
    let head = names.iter().map(|name| text_width(name)).fold(0.0, f64::max) + PAD;
    let mut content = Group::new().add(line("title", "Paths between devices", 0.0, 0.0));
    let top = LINE + PAD;
    for (column, _) in plan.devices.iter().enumerate() {
        content = content.add(centred(&(column + 1).to_string(), head + CELL * column as f64, top, CELL));
    }
    for (row, from) in plan.devices.iter().enumerate() {
        let y = top + LINE * 1.3 * (row as f64 + 1.0);
        content = content.add(line("", &names[row], 0.0, y));
        for (column, to) in plan.devices.iter().enumerate() {
            let x = head + CELL * column as f64;
            let path = plan.path(from, to);
            let (class, word) = match path {
                _ if from.id == to.id => ("middle", "-"),
                DevicePath::Link(_) | DevicePath::Pcie { path: PciePath::Switch, .. } => {
                    ("near", path.as_str())
                }
                DevicePath::Pcie { path: PciePath::System, may_be_linked: false } => ("far", path.as_str()),
                DevicePath::Pcie { .. } | DevicePath::Unknown => ("middle", path.as_str()),
            };
            let cell = rectangle(class, CELL, LINE * 1.3).set("x", x).set("y", y - LINE * 0.15);
            content = content.add(cell).add(centred(word, x, y, CELL));
        }
    }
    let mut bottom = top + LINE * 1.3 * (plan.devices.len() as f64 + 1.0) + PAD;
    let mut width = head + CELL * plan.devices.len() as f64;
    let fabric = plan.fabric.iter().map(|text| ("", text.as_str()));
    for (class, text) in fabric.chain(DevicePath::LEGEND.split("; ").map(|text| ("quiet", text))) {
        content = content.add(line(class, text, 0.0, bottom));
        width = width.max(text_width(text));
        bottom += LINE;
    }
    DrawnBox { group: content, width, height: bottom }
}

fn framed(class: &str, content: Group, width: f64, height: f64) -> DrawnBox {
    let mut group = Group::new().add(rectangle(class, width, height).set("rx", 4));
    group.append(content);
    DrawnBox { group, width, height }
}

fn rectangle(class: &str, width: f64, height: f64) -> Rectangle {
    Rectangle::new().set("class", class).set("width", width).set("height", height)
}

/// A line of text whose top left corner is at a point.
fn line(class: &str, text: &str, x: f64, y: f64) -> Text {
    Text::new(text).set("class", class).set("x", x).set("y", y + LINE * 0.75)
}

fn centred(text: &str, x: f64, y: f64, width: f64) -> Text {
    line("", text, x + width / 2.0, y).set("text-anchor", "middle")
}

fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER
}
