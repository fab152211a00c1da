//! What a run has shown, as text, JSON and SVG.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::Plan;
use super::fault::{Class, Happening};
use super::judge::Outcome;
use super::network::Usage;
use super::sampler::Profile;
use super::script::Kind;
use super::tally::Counts;
use crate::chart::{self, Chart, Mark, Series};

const MIB: f64 = (1 << 20) as f64;

/// The result of a run.
#[derive(Debug)]
pub struct Report {
    plan: Plan,
    took: Duration,
    counts: Counts,
    faults: Vec<Happening>,
    profiles: Vec<Profile>,
    transcripts: String,
}

impl Report {
    pub(super) fn new(
        plan: &Plan,
        took: Duration,
        counts: Counts,
        faults: Vec<Happening>,
        profiles: Vec<Profile>,
        transcripts: String,
    ) -> Self {
        Self { plan: plan.clone(), took, counts, faults, profiles, transcripts }
    }

    /// How much was against the rules.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.counts.failures
    }

    /// How many faults there were.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.faults.len()
    }

    /// How many streams went through, whole and both ways.
    #[must_use]
    pub fn complete(&self) -> u64 {
        self.counts.with_outcome(Outcome::Complete)
    }

    /// The first failures with the faults near them, and the last that the programs have printed; empty if there are no
    /// failures.
    #[must_use]
    pub fn evidence(&self) -> String {
        if self.failures() == 0 {
            return String::new();
        }
        let problems = self.counts.problems.join("\n");
        format!(
            "{} failures, seed {}; the first:\n{problems}\n{}",
            self.failures(),
            self.plan.seed,
            self.transcripts
        )
    }

    /// Streams of the run that came to `outcome`, by kind.
    fn streams(&self, kind: Kind, outcome: Outcome) -> u64 {
        self.counts.streams.get(&(kind, outcome)).copied().unwrap_or(0)
    }

    fn kinds(&self) -> BTreeSet<Kind> {
        self.counts.streams.keys().map(|(kind, _)| *kind).collect()
    }

    fn faults_by_class(&self) -> BTreeMap<Class, usize> {
        let mut classes = BTreeMap::new();
        for happening in &self.faults {
            *classes.entry(happening.class).or_default() += 1;
        }
        classes
    }

    /// The numbers, for other programs: bytes and seconds.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let plan = &self.plan;
        let usage =
            |usage: Usage| json!({ "resident_bytes": usage.resident, "descriptors": usage.descriptors });
        let streams: serde_json::Map<_, _> = self
            .kinds()
            .into_iter()
            .map(|kind| {
                let outcomes: serde_json::Map<_, _> = Outcome::ALL
                    .into_iter()
                    .map(|outcome| (outcome.name().to_owned(), self.streams(kind, outcome).into()))
                    .collect();
                (kind.name().to_owned(), outcomes.into())
            })
            .collect();
        let faults: serde_json::Map<_, _> = self
            .faults_by_class()
            .into_iter()
            .map(|(class, count)| (class.name().to_owned(), count.into()))
            .collect();
        let processes: Vec<_> = self
            .profiles
            .iter()
            .map(|profile| {
                json!({
                    "mode": profile.mode,
                    "name": profile.name,
                    "idle": usage(profile.idle),
                    "peak": usage(profile.peak),
                    "after": usage(profile.after),
                })
            })
            .collect();
        json!({
            "seed": plan.seed,
            "server": plan.server.name(),
            "client": plan.client.name(),
            "modes": plan.modes.iter().map(|mode| mode.name()).collect::<Vec<_>>(),
            "seconds": self.took.as_secs_f64(),
            "streams": streams,
            "checked_bytes": self.counts.bytes,
            "datagrams": { "sent": self.counts.datagrams.0, "answered": self.counts.datagrams.1 },
            "faults": faults,
            "longest_pause": self.counts.longest_pause.as_secs_f64(),
            "longest_pause_without_fault": self.counts.longest_quiet_pause.as_secs_f64(),
            "longest_recovery": self.counts.longest_recovery.as_secs_f64(),
            "processes": processes,
            "failures": self.counts.failures,
            "problems": self.counts.problems,
        })
    }

    /// Memory and descriptors over time, with a mark for each fault.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let title =
            |what| format!("{what} (server {}, others {})", self.plan.server.name(), self.plan.client.name());
        chart::document(&[
            self.chart(title("Memory"), "resident memory, MiB", |usage| usage.resident as f64 / MIB),
            self.chart(title("Descriptors"), "open descriptors", |usage| usage.descriptors as f64),
        ])
    }

    /// One line per name, whatever the mode: modes come one after the other.
    fn chart(&self, title: String, y_label: &str, value: impl Fn(Usage) -> f64) -> Chart {
        let mut series: Vec<Series> = Vec::new();
        for profile in &self.profiles {
            let points = profile.samples.iter().map(|&(at, usage)| (at, value(usage)));
            match series.iter_mut().find(|series| series.name == profile.name) {
                Some(series) => series.points.extend(points),
                None => series.push(Series {
                    name: profile.name.clone(),
                    points: points.collect(),
                    gap: 4.0 * self.plan.interval.as_secs_f64(),
                }),
            }
        }
        let marks = self.faults.iter().map(|happening| Mark {
            name: happening.class.name().to_owned(),
            x: happening.started.as_secs_f64(),
        });
        Chart {
            title,
            x_label: "time, s".to_owned(),
            y_label: y_label.to_owned(),
            series,
            marks: marks.collect(),
        }
    }
}

/// Markdown.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_streams(f)?;
        writeln!(f)?;
        self.write_processes(f)?;
        let counts = &self.counts;
        let faults: Vec<_> = self
            .faults_by_class()
            .into_iter()
            .map(|(class, count)| format!("{count} × {}", class.name()))
            .collect();
        writeln!(f)?;
        writeln!(
            f,
            "- seed {}, {:.0} s, faults: {}",
            self.plan.seed,
            self.took.as_secs_f64(),
            faults.join(", ")
        )?;
        writeln!(
            f,
            "- {:.2} GiB compared; {} of {} datagrams answered",
            counts.bytes as f64 / MIB / 1024.0,
            counts.datagrams.1,
            counts.datagrams.0
        )?;
        writeln!(
            f,
            "- longest pause of a stream: {:.1} s, of which without a fault at most {:.1} s",
            counts.longest_pause.as_secs_f64(),
            counts.longest_quiet_pause.as_secs_f64()
        )?;
        writeln!(
            f,
            "- longest from the end of a fault until everything worked again: {:.1} s",
            counts.longest_recovery.as_secs_f64()
        )?;
        writeln!(f, "- failures: {}", counts.failures)
    }
}

impl Report {
    fn write_streams(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Outcome::ALL.into_iter().map(Outcome::name).collect();
        writeln!(f, "| streams | {} |", names.join(" | "))?;
        writeln!(f, "|---|{}", "--:|".repeat(names.len()))?;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, count: &dyn Fn(Outcome) -> u64| {
            let counts: Vec<_> = Outcome::ALL.into_iter().map(|outcome| count(outcome).to_string()).collect();
            writeln!(f, "| {name} | {} |", counts.join(" | "))
        };
        for kind in self.kinds() {
            row(f, kind.name(), &|outcome| self.streams(kind, outcome))?;
        }
        row(f, "all", &|outcome| self.counts.with_outcome(outcome))
    }

    fn write_processes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| process | memory, MiB: idle | peak | after | descriptors: idle | peak | after |")?;
        writeln!(f, "|---|--:|--:|--:|--:|--:|--:|")?;
        for Profile { mode, name, idle, peak, after, .. } in &self.profiles {
            let mib = |usage: &Usage| format!("{:.0}", usage.resident as f64 / MIB);
            let descriptors = |usage: &Usage| usage.descriptors.to_string();
            let columns =
                [idle, peak, after].map(mib).into_iter().chain([idle, peak, after].map(descriptors));
            writeln!(f, "| {mode}: {name} | {} |", columns.collect::<Vec<_>>().join(" | "))?;
        }
        Ok(())
    }
}
