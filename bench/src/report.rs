//! Results: medians and their spread, as a table for people and as JSON for programs.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

/// The middle of some measurements, and how far apart they were.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// What a result should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Aim {
    AtMost(f64),
    AtLeast(f64),
}

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    scenario: &'static str,
    measure: String,
    floor: Option<Spread>,
    gateway: Spread,
    ratio: Option<Spread>,
    aim: Option<(Aim, On)>,
}

/// What an aim is held against.
#[derive(Debug, Clone, Copy)]
enum On {
    Ratio,
    Gateway,
}

impl Spread {
    /// Of measurements in any order; of none, zero.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        let count = values.len();
        let median = match count % 2 {
            0 if count > 0 => f64::midpoint(at(count / 2 - 1), at(count / 2)),
            _ => at(count / 2),
        };
        Self {
            median,
            low: at(0),
            high: at(count.saturating_sub(1)),
        }
    }

    pub(crate) fn one(value: f64) -> Self {
        Self::of(vec![value])
    }

    fn json(self) -> Value {
        json!({ "median": self.median, "low": self.low, "high": self.high })
    }

    fn range(self) -> String {
        if self.low.total_cmp(&self.high).is_eq() {
            return String::new();
        }
        format!("{}..{}", short(self.low), short(self.high))
    }
}

impl Aim {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(limit) => format!("<= {}", short(limit)),
            Self::AtLeast(limit) => format!(">= {}", short(limit)),
        }
    }
}

impl Row {
    /// Something that both sides have; what counts is the ratio of each round.
    pub(crate) fn compared(
        scenario: &'static str,
        measure: impl Into<String>,
        floor: &[f64],
        gateway: &[f64],
    ) -> Self {
        let ratios = gateway.iter().zip(floor).map(|(ours, least)| ours / least);
        Self {
            scenario,
            measure: measure.into(),
            floor: Some(Spread::of(floor.to_vec())),
            gateway: Spread::of(gateway.to_vec()),
            ratio: Some(Spread::of(ratios.collect())),
            aim: None,
        }
    }

    /// Something that only the gateway has.
    pub(crate) fn plain(
        scenario: &'static str,
        measure: impl Into<String>,
        gateway: Spread,
    ) -> Self {
        Self {
            scenario,
            measure: measure.into(),
            floor: None,
            gateway,
            ratio: None,
            aim: None,
        }
    }

    /// What the median of the ratios should be.
    pub(crate) fn aim_ratio(mut self, aim: Aim) -> Self {
        self.aim = Some((aim, On::Ratio));
        self
    }

    /// What the gateway's own median should be.
    pub(crate) fn aim(mut self, aim: Aim) -> Self {
        self.aim = Some((aim, On::Gateway));
        self
    }

    /// Whether it is; without an aim, it is.
    fn is_met(&self) -> bool {
        self.aim.is_none_or(|(aim, on)| {
            let spread = match on {
                On::Ratio => self.ratio.unwrap_or(self.gateway),
                On::Gateway => self.gateway,
            };
            aim.is_met(spread.median)
        })
    }

    fn aim_text(&self) -> String {
        self.aim.map_or(String::new(), |(aim, on)| match on {
            On::Ratio => format!("ratio {}", aim.text()),
            On::Gateway => aim.text(),
        })
    }

    fn cells(&self) -> [String; 7] {
        let mark = match (self.aim, self.is_met()) {
            (None, _) => "",
            (_, true) => " met",
            (_, false) => " MISSED",
        };
        [
            self.scenario.to_owned(),
            self.measure.clone(),
            self.floor
                .map_or(String::new(), |floor| short(floor.median)),
            short(self.gateway.median),
            self.ratio
                .map_or(String::new(), |ratio| short(ratio.median)),
            self.ratio.unwrap_or(self.gateway).range(),
            self.aim_text() + mark,
        ]
    }

    fn json(&self) -> Value {
        json!({
            "scenario": self.scenario,
            "measure": self.measure,
            "floor": self.floor.map(Spread::json),
            "gateway": self.gateway.json(),
            "ratio": self.ratio.map(Spread::json),
            "aim": self.aim_text(),
            "met": self.is_met(),
        })
    }
}

/// The table.
pub(crate) fn table(rows: &[Row]) -> String {
    let head = [
        "scenario", "measure", "floor", "gateway", "ratio", "spread", "aim",
    ];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max();
    let widths: Vec<_> = (0..head.len()).map(|at| width(at).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in &lines {
        for (column, cell) in line.iter().enumerate() {
            // Writing into a string can't fail. Numbers are read from their end.
            let _ = match column {
                2..=4 => write!(text, "{cell:>width$}  ", width = widths[column]),
                _ => write!(text, "{cell:<width$}  ", width = widths[column]),
            };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// Writes the results for another program to read.
pub(crate) fn write_json(path: &Path, rows: &[Row]) -> anyhow::Result<()> {
    let rows: Vec<_> = rows.iter().map(Row::json).collect();
    let text = serde_json::to_string_pretty(&json!({ "results": rows }))?;
    std::fs::write(path, text + "\n").with_context(|| format!("can't write {}", path.display()))
}

/// Three digits are what a measurement is worth.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0, 10.0]);
        assert_eq!(short(spread.median), "2.50");
        assert_eq!(spread.range(), "1.00..10.0");
        assert_eq!(short(Spread::of(Vec::new()).median), "0");
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let row = Row::compared("s", "m", &[1.0, 10.0], &[2.0, 10.0]).aim_ratio(Aim::AtMost(1.4));
        assert_eq!(
            row.ratio.map(|ratio| short(ratio.median)).as_deref(),
            Some("1.50")
        );
        assert!(!row.is_met());
        assert!(table(&[row]).contains("ratio <= 1.40 MISSED"));
    }
}
