//! Memory and descriptors of the processes over time.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use super::network::{Member, Network, Usage};
use super::tally::Tally;

/// How a process has done.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) mode: &'static str,
    pub(super) name: String,
    /// Before the first stream.
    pub(super) idle: Usage,
    /// The most of each.
    pub(super) peak: Usage,
    /// After the last stream.
    pub(super) after: Usage,
    /// Seconds since the begin of the run, and what was used then.
    pub(super) samples: Vec<(f64, Usage)>,
}

/// Watches the processes of a network.
pub(super) struct Sampler<'a> {
    network: &'a Network,
    tally: &'a Tally,
    profiles: Vec<Profile>,
    /// Problems that have been counted already.
    known: HashSet<String>,
}

impl<'a> Sampler<'a> {
    /// To be called while nobody uses the network.
    pub(super) fn new(network: &'a Network, tally: &'a Tally, mode: &'static str) -> Self {
        let profile = |member: &Member| {
            let idle = member.usage().unwrap_or_default();
            let name = member.name.clone();
            Profile { mode, name, idle, peak: idle, after: idle, samples: Vec::new() }
        };
        let profiles = network.members.iter().map(profile).collect();
        Self { network, tally, profiles, known: HashSet::new() }
    }

    /// Takes one sample of each process, and looks for exits, panics and memory beyond idle + `margin`.
    ///
    /// # Errors
    /// Those of looking at a process.
    pub(super) fn sample(&mut self, now: Duration, margin: u64) -> io::Result<()> {
        for (member, profile) in self.network.members.iter().zip(&mut self.profiles) {
            let mut problems = member.wrong()?;
            if let Some(usage) = member.usage() {
                profile.samples.push((now.as_secs_f64(), usage));
                profile.peak.resident = profile.peak.resident.max(usage.resident);
                profile.peak.descriptors = profile.peak.descriptors.max(usage.descriptors);
                if member.is_ours && usage.resident > profile.idle.resident + margin {
                    problems.push(format!("{} uses more than {margin} bytes above idle", member.name));
                }
            }
            for problem in problems {
                if self.known.insert(problem.clone()) {
                    self.tally.add_failure(problem);
                }
            }
        }
        Ok(())
    }

    /// Waits, but not beyond `deadline`, until each process has as few descriptors as when it was idle, and memory
    /// within `margin` of that. More is a failure.
    pub(super) fn settle(mut self, deadline: Instant, margin: u64) -> Vec<Profile> {
        for (member, profile) in self.network.members.iter().zip(&mut self.profiles) {
            let limit = Usage { resident: profile.idle.resident + margin, ..profile.idle };
            profile.after = member.wait_for_usage(limit, deadline);
            for (what, used, limit) in [
                ("descriptors", profile.after.descriptors as u64, limit.descriptors as u64),
                ("bytes of memory", profile.after.resident, limit.resident),
            ] {
                if member.is_ours && used > limit {
                    self.tally.add_failure(format!(
                        "{}: {used} {what} when all is over, limit {limit}",
                        member.name
                    ));
                }
            }
        }
        self.profiles
    }
}
