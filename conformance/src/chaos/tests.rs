//! The checker finds what it looks for: applications and targets talk through a relay that is bad on purpose.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::crowd::{Crowd, Targets};
use super::fault::{Class, Cut, Excuse, FaultLog, Happening, Weather};
use super::judge::{Outcome, Rules};
use super::proxy::Proxy;
use super::registry::Registry;
use super::script::{Door, Flow, Kind, Role, Script, Stall};
use super::stream::Clock;
use super::tally::Counts;
use super::watch::Watch;

const RULES: Rules = Rules { exact_ends: true };
const MIB: u64 = 1 << 20;
/// How long a stream may stand still in these tests.
const PATIENCE: Duration = Duration::from_millis(500);
/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(20);

/// Targets behind a proxy, and who looks at the streams between.
struct Scene {
    registry: Arc<Registry>,
    targets: Targets,
    proxy: Proxy,
    faults: FaultLog,
}

impl Scene {
    fn new() -> Self {
        let registry = Arc::new(Registry::new(Clock::start(), Arc::default(), 0));
        let targets = Targets::bind(&registry).expect("loopback");
        let proxy = Proxy::start(targets.streams()).expect("loopback");
        Self { registry, targets, proxy, faults: FaultLog::default() }
    }

    /// Plays one stream to its end; `trouble` happens when bytes have arrived at the application.
    fn play(&self, up: Flow, down: Flow, trouble: impl FnOnce(&Proxy)) -> Counts {
        let kind = Kind::Duplex;
        let script = Script {
            key: self.registry.next_key(),
            kind,
            entry: 0,
            door: Door::Direct,
            up,
            down,
            late_ends: false,
            abort: None,
        };
        let entries: [SocketAddr; 1] = [self.proxy.address()];
        let stopping = AtomicBool::new(false);
        let crowd = Crowd {
            seed: 0,
            entries: &entries,
            rules: RULES,
            registry: &self.registry,
            targets: &self.targets,
            faults: &self.faults,
            stopping: &stopping,
        };
        let mut watch = Watch::new(&self.registry, &self.faults, RULES, PATIENCE, Duration::ZERO);
        thread::scope(|scope| {
            let playing = scope.spawn(|| crowd.play_one(script));
            let deadline = Instant::now() + LONG;
            let mut trouble = Some(trouble);
            while !playing.is_finished() || self.registry.len() > 0 {
                assert!(Instant::now() < deadline, "the stream never ends");
                thread::sleep(Duration::from_millis(20));
                if let Some(trouble) = trouble.take_if(|_| self.has_arrived()) {
                    trouble(&self.proxy);
                }
                watch.look();
            }
        });
        self.registry.tally.counts()
    }

    fn play_well(&self, up: Flow, down: Flow) -> Counts {
        self.play(up, down, |_| {})
    }

    fn has_arrived(&self) -> bool {
        self.registry.all().iter().any(|stream| stream.side(Role::App).received.load(SeqCst) > 0)
    }
}

/// Takes about 2 s.
fn slow(length: u64) -> Flow {
    let mut flow = Flow::of(length);
    flow.reading.piece = (length / 20) as usize;
    flow.reading.pause = Duration::from_millis(100);
    flow
}

/// Exactly this one failure.
fn assert_failure(counts: &Counts, text: &str) {
    assert_eq!(counts.failures, 1, "{:?}", counts.problems);
    assert!(counts.problems[0].contains(text), "{}", counts.problems[0]);
    assert_eq!(counts.with_outcome(Outcome::Failed), 1);
}

#[test]
fn a_good_relay_passes() {
    let scene = Scene::new();
    scene.proxy.set_weather(Weather { latency: Duration::from_millis(30), rate: Some(8 * MIB) });
    let counts = scene.play_well(Flow::of(MIB), Flow::of(3 * MIB));
    assert_eq!(counts.problems, [""; 0]);
    assert_eq!((counts.with_outcome(Outcome::Complete), counts.bytes), (1, 4 * MIB));
}

#[test]
fn a_wrong_byte_is_found() {
    let scene = Scene::new();
    scene.proxy.garble(MIB);
    let counts = scene.play_well(Flow::of(10), Flow::of(3 * MIB));
    assert_failure(&counts, "the application received wrong bytes");
}

#[test]
fn a_truncated_stream_with_a_regular_end_is_found() {
    let scene = Scene::new();
    let counts = scene.play(Flow::of(10), slow(64 * MIB), |proxy| proxy.cut(Cut::Fin));
    assert_failure(&counts, "the application saw a regular end after");
}

#[test]
fn a_reset_without_a_fault_is_found() {
    let scene = Scene::new();
    let counts = scene.play(Flow::of(10), slow(64 * MIB), |proxy| proxy.cut(Cut::Rst));
    assert_failure(&counts, "was reset");
}

#[test]
fn a_reset_by_a_fault_is_excused() {
    let scene = Scene::new();
    let counts = scene.play(Flow::of(10), slow(64 * MIB), |proxy| {
        scene.faults.begin(Happening {
            class: Class::Kill,
            text: "kill".to_owned(),
            entry: Some(0),
            excuse: Excuse::Everything,
            cuts_short: None,
            started: scene.registry.clock.now(),
            over: None,
        });
        proxy.cut(Cut::Rst);
    });
    assert_eq!(counts.problems, [""; 0]);
    assert_eq!(counts.with_outcome(Outcome::Broken), 1);
}

#[test]
fn a_stuck_stream_is_found() {
    let scene = Scene::new();
    let counts = scene.play(Flow::of(10), slow(64 * MIB), |proxy| {
        proxy.stall(false, true);
    });
    assert_failure(&counts, "stuck: the application has received nothing for");
}

#[test]
fn a_reader_that_does_not_want_to_is_not_stuck() {
    let scene = Scene::new();
    let mut down = Flow::of(64 * MIB);
    down.stall = Some(Stall { at: MIB, length: 4 * PATIENCE });
    let counts = scene.play_well(Flow::of(10), down);
    assert_eq!(counts.problems, [""; 0]);
    assert_eq!(counts.with_outcome(Outcome::Complete), 1);
}

#[test]
fn a_silently_lost_connection_is_reset_in_the_end() {
    let scene = Scene::new();
    for how in [Cut::HalfOpen(PATIENCE / 2), Cut::Orphan(PATIENCE / 2)] {
        let counts = scene.play(Flow::of(10), slow(64 * MIB), |proxy| proxy.cut(how));
        assert!(counts.problems.iter().all(|problem| problem.contains("was reset")), "{:?}", counts.problems);
    }
    assert_eq!(scene.registry.tally.failures(), 2);
}
