//! The picture: a panel for each operation, a group of bars for each number of connections.

use std::fmt::Write as _;

use crate::plan::{Asked, Cell, Kind};
use crate::results::Results;
use crate::table::count;

const PANEL_WIDTH: f64 = 420.0;
const PANEL_HEIGHT: f64 = 235.0;
const TOP: f64 = 66.0;
const BARS_HEIGHT: f64 = 160.0;

/// Contestant, node asked, colour, legend.
const BARS: [(Kind, Asked, &str, &str); 6] = [
    (Kind::Etcd34, Asked::Leader, "#c3d0e4", "etcd 3.4, leader"),
    (Kind::Etcd, Asked::Leader, "#7c99c4", "etcd 3.5, leader"),
    (Kind::Hraftd, Asked::Leader, "#d9622b", "hraftd, leader"),
    (Kind::Hraftd, Asked::Follower, "#f0a57f", "hraftd, follower"),
    (Kind::Redis, Asked::Leader, "#93b98e", "redis, one node"),
    (Kind::Ceiling, Asked::Leader, "#d5d5d5", "axum without consensus"),
];

/// The cells with the first size.
pub fn draw(results: &Results, cells: &[Cell], caption: &str) -> String {
    let size = cells[0].size;
    let mut connections: Vec<usize> = Vec::new();
    let mut blocks: Vec<Cell> = Vec::new();
    for cell in cells.iter().filter(|cell| cell.size == size) {
        if !connections.contains(&cell.connections) {
            connections.push(cell.connections);
        }
        if !blocks.iter().any(|block| block.same_block(*cell)) {
            blocks.push(*cell);
        }
    }
    let (width, height) = (2.0 * PANEL_WIDTH, TOP + blocks.len().div_ceil(2) as f64 * PANEL_HEIGHT + 14.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\" fill=\"#333\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"20\" y=\"24\" font-size=\"15\">Requests a second, values of {size} bytes</text>\n\
         <text x=\"20\" y=\"{}\" fill=\"#777\" font-size=\"10\">{}</text>\n",
        height - 8.0,
        escaped(caption)
    );
    let shown: Vec<_> = BARS.iter().filter(|bar| results.samples.iter().any(|sample| sample.kind == bar.0)).collect();
    for (number, (_, _, colour, name)) in shown.iter().enumerate() {
        let x = 20.0 + number as f64 * 132.0;
        let _ = write!(svg, "<rect x=\"{x}\" y=\"38\" width=\"11\" height=\"11\" fill=\"{colour}\"/>");
        let _ = writeln!(svg, "<text x=\"{}\" y=\"48\">{name}</text>", x + 16.0);
    }
    for (number, &block) in blocks.iter().enumerate() {
        let (x, y) = ((number % 2) as f64 * PANEL_WIDTH + 20.0, TOP + (number / 2) as f64 * PANEL_HEIGHT);
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">");
        let rate = |connections, kind, asked| {
            results.summary(kind, Cell { asked, connections, ..block }).map_or(0.0, |summary| summary.rate)
        };
        panel(&mut svg, &block.title(), &connections, rate);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, title: &str, connections: &[usize], rate: impl Fn(usize, Kind, Asked) -> f64) {
    let width = PANEL_WIDTH - 30.0;
    let group = width / connections.len() as f64;
    let bar = group * 0.86 / BARS.len() as f64;
    let all = connections.iter().flat_map(|&count| BARS.iter().map(move |bar| (count, bar.0, bar.1)));
    let highest = all.map(|(count, kind, asked)| rate(count, kind, asked)).fold(1.0, f64::max);
    let base = 34.0 + BARS_HEIGHT;
    let _ = writeln!(svg, "<text y=\"12\" font-size=\"13\">{title}</text>");
    let _ = writeln!(svg, "<line x2=\"{width}\" y1=\"{base}\" y2=\"{base}\" stroke=\"#999\"/>");
    for (number, &connections) in connections.iter().enumerate() {
        let left = number as f64 * group + group * 0.07;
        for (place, &(kind, asked, colour, _)) in BARS.iter().enumerate() {
            let rate = rate(connections, kind, asked);
            if rate == 0.0 {
                continue;
            }
            let (x, height) = (left + place as f64 * bar, rate / highest * BARS_HEIGHT);
            let (top, middle) = (base - height, x + bar / 2.0);
            let _ = write!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>",
                bar - 1.5
            );
            let _ = writeln!(
                svg,
                "<text x=\"{middle:.1}\" y=\"{:.1}\" font-size=\"6\" text-anchor=\"middle\">{}</text>",
                top - 3.0,
                count(rate)
            );
        }
        let plural = if connections == 1 { "" } else { "s" };
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{connections} connection{plural}</text>",
            left + group * 0.43,
            base + 15.0
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
