//! Medians and ratios, as a table or as JSON.

use std::fmt::{self, Write as _};

use super::{Error, Metric, Plan, Row, Sample};

/// All measured numbers.
#[derive(Debug)]
pub struct Report {
    peers: Vec<String>,
    lines: Vec<Line>,
    failures: Vec<Failure>,
    /// The peer to which the others are compared.
    against: usize,
    rounds: u32,
    seconds: f64,
}

/// One metric of all peers.
#[derive(Debug)]
struct Line {
    row: Row,
    metric: &'static Metric,
    /// Per peer, one value per round that worked.
    values: Vec<Vec<f64>>,
}

/// A cell without a value.
#[derive(Debug, serde::Serialize)]
struct Failure {
    peer: String,
    row: &'static str,
    reason: String,
}

impl Report {
    pub(super) fn new(plan: &Plan) -> Self {
        let lines = plan.rows.iter().flat_map(|&row| {
            row.metrics().iter().map(move |metric| Line {
                row,
                metric,
                values: vec![Vec::new(); plan.peers.len()],
            })
        });
        Self {
            peers: plan.peers.iter().map(|peer| peer.name().to_owned()).collect(),
            lines: lines.collect(),
            failures: Vec::new(),
            against: plan.against,
            rounds: plan.rounds,
            seconds: plan.duration.as_secs_f64(),
        }
    }

    /// Takes the outcome of one cell.
    pub(super) fn add(&mut self, peer: usize, row: Row, outcome: Result<Vec<Sample>, Error>) {
        match outcome {
            Ok(samples) => {
                for sample in samples {
                    let line = self
                        .lines
                        .iter_mut()
                        .find(|line| line.row == row && std::ptr::eq(line.metric, sample.metric))
                        .expect("every row of the plan has its lines");
                    line.values[peer].push(sample.value);
                }
            }
            Err(error) => self.failures.push(Failure {
                peer: self.peers[peer].clone(),
                row: row.metrics()[0].name,
                reason: error.to_string(),
            }),
        }
    }

    /// Whether every cell has a value.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }

    /// The report as JSON, for programs.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let results: Vec<serde_json::Value> = self
            .lines
            .iter()
            .flat_map(|line| {
                self.peers.iter().zip(&line.values).enumerate().map(move |(index, (peer, values))| {
                    serde_json::json!({
                        "row": line.row.metrics()[0].name,
                        "metric": line.metric.name.trim(),
                        "unit": line.metric.unit,
                        "lower_is_better": line.metric.lower_is_better,
                        "peer": peer,
                        "values": values,
                        "median": median(values),
                        "times_better": self.ratio(line, index),
                    })
                })
            })
            .collect();
        serde_json::json!({
            "rounds": self.rounds,
            "seconds": self.seconds,
            "against": self.peers[self.against],
            "results": results,
            "failures": self.failures,
        })
    }

    /// How many times better than the peer of comparison.
    fn ratio(&self, line: &Line, peer: usize) -> Option<f64> {
        let (value, base) = (median(&line.values[peer])?, median(&line.values[self.against])?);
        let ratio = if line.metric.lower_is_better { base / value } else { value / base };
        ratio.is_finite().then_some(ratio)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compared = |index: usize| index != self.against;
        let mut head = format!("{:<28} {:>6}", "", "");
        for (index, peer) in self.peers.iter().enumerate() {
            write!(head, " {peer:>14}")?;
            if compared(index) {
                write!(head, " {:>9}", "ratio")?;
            }
        }
        writeln!(f, "{head}")?;
        for line in &self.lines {
            write!(f, "{:<28} {:>6}", line.metric.name, line.metric.unit)?;
            for index in 0..self.peers.len() {
                write!(f, " {:>14}", shown(median(&line.values[index]), ""))?;
                if compared(index) {
                    write!(f, " {:>9}", shown(self.ratio(line, index), "x"))?;
                }
            }
            writeln!(f)?;
        }
        let (rounds, seconds, against) = (self.rounds, self.seconds, &self.peers[self.against]);
        writeln!(f, "\nMedians of {rounds} rounds of {seconds} s, interleaved; every byte checked.")?;
        if self.peers.len() > 1 {
            writeln!(f, "Ratios to {against}: above 1 is better, whatever the unit.")?;
        }
        for failure in &self.failures {
            writeln!(f, "FAILED {}, {}: {}", failure.peer, failure.row, failure.reason.trim_end())?;
        }
        Ok(())
    }
}

/// Three or four significant digits; a dash for nothing.
fn shown(value: Option<f64>, suffix: &str) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value >= 100.0 => format!("{value:.0}{suffix}"),
        Some(value) if value >= 10.0 => format!("{value:.1}{suffix}"),
        Some(value) => format!("{value:.2}{suffix}"),
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn medians_and_ratios() {
        let plan = Plan {
            peers: vec!["direct".parse().expect("a peer"), "x=y {socks}".parse().expect("a peer")],
            rows: vec![Row::Close, Row::Down1],
            rounds: 3,
            duration: Duration::from_secs(1),
            against: 1,
        };
        let mut report = Report::new(&plan);
        for (peer, row, values) in [
            (0, Row::Close, [3.0, 1.0, 2.0]),
            (1, Row::Close, [8.0, 8.0, 9.0]),
            (0, Row::Down1, [4.0, 4.0, 4.0]),
        ] {
            for value in values {
                report.add(peer, row, Ok(vec![Sample { metric: &row.metrics()[0], value }]));
            }
        }
        report.add(1, Row::Down1, Err(Error::Stalled));

        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        assert_eq!(report.ratio(&report.lines[0], 0), Some(4.0), "less time is better");
        assert_eq!(report.ratio(&report.lines[1], 0), None, "nothing to compare with");
        assert!(!report.is_complete());
        let text = report.to_string();
        assert!(text.contains("FAILED x, bulk down, 1 stream: nothing got through"), "{text}");
        assert_eq!(report.to_json()["results"][0]["median"], 2.0);
    }
}
