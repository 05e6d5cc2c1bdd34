//! Two binaries of hraftd beside each other: what `benches/compare` prints.

use crate::plan::{Cell, Kind};
use crate::results::{Results, Sample, median};
use crate::table::count;

/// For each cell the medians of both, and the median ratio of new to old over all pairs with its quartiles and extremes.
pub fn print(results: &Results, cells: &[Cell]) {
    println!("\nhraftd beside old; ratios are new / old within each pair: median [quartiles] (lowest–highest)");
    for &cell in cells {
        let (Some(old), Some(new)) = (results.summary(Kind::Old, cell), results.summary(Kind::Hraftd, cell)) else {
            println!("{cell}: not measured");
            continue;
        };
        let pairs = results.ratios(Kind::Hraftd, Kind::Old, cell, Sample::rate).len();
        println!("{cell}, {pairs} pairs");
        let rates = format!("{} → {}", count(old.rate), count(new.rate));
        println!(
            "  ops/s          {rates:<18} {}",
            spread(&results.ratios(Kind::Hraftd, Kind::Old, cell, Sample::rate))
        );
        let micros = format!("{:.1} → {:.1}", old.cpu_micros, new.cpu_micros);
        println!(
            "  CPU µs an op   {micros:<18} {}",
            spread(&results.ratios(Kind::Hraftd, Kind::Old, cell, Sample::cpu_micros))
        );
    }
}

/// Median, quartiles and extremes of ascending ratios.
fn spread(ratios: &[f64]) -> String {
    let Some(median) = median(ratios) else { return "no pair".to_owned() };
    let at = |quantile: f64| ratios[((ratios.len() - 1) as f64 * quantile).round() as usize];
    format!("{median:.3} [{:.3}–{:.3}] ({:.3}–{:.3})", at(0.25), at(0.75), at(0.0), at(1.0))
}
