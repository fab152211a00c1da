//! Our programs and the published LinkSocks as black boxes, each as client and as server.
//!
//! `ours-async-std` is ours with the other driver. Trials of two are named `CLIENT_to_SERVER::CASE`, those of any mode `MODE::SERVER_PROVIDER_CONNECTOR::CASE`, with the
//! parts that the mode has (in forward mode the server and the client). Where the published program is not installed its trials are ignored; with
//! `LINKSOCKS_REQUIRE_PEERS=1` they fail instead. `LINKSOCKS_INTEROP_CONTROL=1` adds the published program in all parts,
//! which tests the tests.

mod close;
mod compression;
mod dns;
mod failover;
mod fairness;
mod fast_open;
mod lifecycle;
mod link;
mod misbehaviour;
mod network;
mod proxy;
mod release;
mod server_first;
mod transfer;
mod udp;

use std::env;
use std::net::{Ipv6Addr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::sync::{PoisonError, RwLock};

use conformance::interop::{Options, Program, Tunnel};
use libtest_mimic::{Arguments, Failed, Trial};

type TestResult = Result<(), Failed>;

/// Trials at once, unless the command line says otherwise: most of their time is the start and the timers of programs.
const TEST_THREADS: usize = 3;

/// What a trial holds of this machine: some of it, or all of it.
static MACHINE: RwLock<()> = RwLock::new(());

/// Runs a trial beside others, or alone if it `measures` how fast something is.
fn on_this_machine(measures: bool, run: impl FnOnce() -> TestResult) -> TestResult {
    if measures {
        let _all = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
        run()
    } else {
        let _some = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
        run()
    }
}

/// Who is the client and who is the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pairing {
    client: Program,
    server: Program,
}

const OURS_TO_OURS: Pairing = Pairing { client: Program::OURS, server: Program::OURS };
const REAL_TO_OURS: Pairing = Pairing { client: Program::REAL, server: Program::OURS };
const OURS_TO_REAL: Pairing = Pairing { client: Program::OURS, server: Program::REAL };
const REAL_TO_REAL: Pairing = Pairing { client: Program::REAL, server: Program::REAL };

impl Pairing {
    /// This one with our other driver in place of each of our programs, one at a time: the engine is the same, so both at
    /// once would show nothing new.
    fn with_other_driver(self) -> impl Iterator<Item = Self> {
        let other = |program: Program| program.is_ours().then_some(Program::OURS_ASYNC_STD);
        let client = other(self.client).map(|client| Self { client, ..self });
        let server = other(self.server).map(|server| Self { server, ..self });
        client.into_iter().chain(server)
    }

    fn needs_real(self) -> bool {
        self.client == Program::REAL || self.server == Program::REAL
    }
}

/// One behaviour, and which pairings promise it, with each of our drivers.
struct Case {
    name: &'static str,
    pairings: &'static [Pairing],
    options: Options,
    run: fn(&mut Tunnel) -> TestResult,
}

/// What every pairing must do; the control does it, too.
const ANY: &[Pairing] = &[OURS_TO_OURS, REAL_TO_OURS, OURS_TO_REAL, REAL_TO_REAL];
/// What depends on our client alone.
const OUR_CLIENT: &[Pairing] = &[OURS_TO_OURS, OURS_TO_REAL];
/// What depends on our server alone, or only it offers.
const OUR_SERVER: &[Pairing] = &[OURS_TO_OURS, REAL_TO_OURS];
/// What depends on the server alone, and the published one does, too.
const ANY_SERVER: &[Pairing] = &[OURS_TO_OURS, REAL_TO_REAL];
/// What needs our extensions at both ends, or our server alone.
const OURS: &[Pairing] = &[OURS_TO_OURS];

/// With a client that opens connections fast.
const FAST: Options = Options { fast_open: true, ..Options::DEFAULT };

/// Over TLS.
const SECURE: Options = Options { secure: true, ..Options::DEFAULT };

const fn case(name: &'static str, pairings: &'static [Pairing], run: fn(&mut Tunnel) -> TestResult) -> Case {
    Case { name, pairings, options: Options::DEFAULT, run }
}

const fn fast(name: &'static str, pairings: &'static [Pairing], run: fn(&mut Tunnel) -> TestResult) -> Case {
    Case { name, pairings, options: FAST, run }
}

const CASES: &[Case] = &[
    case("fetch_over_ipv4", ANY, transfer::fetch_over_ipv4),
    case("fetch_over_ipv6", ANY, transfer::fetch_over_ipv6),
    case("fetch_by_name", ANY, transfer::fetch_by_name),
    case("download_64_mib", ANY, transfer::download_64_mib),
    case("upload_64_mib", ANY, transfer::upload_64_mib),
    case("two_hundred_concurrent_fetches", ANY, transfer::two_hundred_concurrent_fetches),
    case("target_speaks_first", ANY, transfer::target_speaks_first),
    case("refused_connection_is_reply_04", ANY, transfer::refused_connection_is_reply_04),
    Case {
        name: "in_band_authentication",
        pairings: ANY,
        options: Options { path: "/socket/", ..Options::DEFAULT },
        run: transfer::fetch_over_ipv4,
    },
    Case {
        name: "four_links",
        pairings: ANY,
        options: Options { threads: 4, ..Options::DEFAULT },
        run: transfer::four_links,
    },
    Case { name: "fetch_over_tls", pairings: OUR_SERVER, options: SECURE, run: transfer::fetch_over_ipv4 },
    Case {
        name: "download_64_mib_over_tls",
        pairings: OUR_SERVER,
        options: SECURE,
        run: transfer::download_64_mib,
    },
    Case {
        name: "upload_64_mib_over_tls",
        pairings: OUR_SERVER,
        options: SECURE,
        run: transfer::upload_64_mib,
    },
    case("udp_over_ipv4", ANY, udp::udp_over_ipv4),
    case("udp_over_ipv6", ANY, udp::udp_over_ipv6),
    case("udp_by_name", ANY, udp::udp_by_name),
    case("a_resolver_finds_names", ANY, dns::a_resolver_finds_names),
    case("large_datagrams", OUR_SERVER, udp::large_datagrams),
    case("large_datagrams_over_ipv6", OUR_SERVER, udp::large_datagrams_over_ipv6),
    case("thirty_udp_associations", ANY, udp::thirty_udp_associations),
    case("malformed_datagrams_are_harmless", OUR_CLIENT, udp::malformed_datagrams_are_harmless),
    Case {
        name: "udp_over_four_links",
        pairings: ANY,
        options: Options { threads: 4, ..Options::DEFAULT },
        run: udp::thirty_udp_associations,
    },
    case("wrong_token_ends_the_client", ANY, lifecycle::wrong_token_ends_the_client),
    case("client_survives_a_restart_of_the_server", ANY, lifecycle::client_survives_a_restart_of_the_server),
    case("lost_link_resets_its_connections", OUR_CLIENT, lifecycle::lost_link_resets_its_connections),
    case("target_closes_while_the_client_sends", OUR_CLIENT, close::target_closes_while_the_client_sends),
    case("client_half_closes_first", OURS, close::client_half_closes_first),
    case("target_half_closes_first", OURS, close::target_half_closes_first),
    case("http_connect", ANY, proxy::http_connect),
    case("http_request_in_absolute_form", ANY, proxy::http_request_in_absolute_form),
    case("http_requests_on_one_connection", OUR_CLIENT, proxy::http_requests_on_one_connection),
    case("http_errors", ANY, proxy::http_errors),
    case("upstream_socks5", ANY, proxy::upstream_socks5),
    case("upstream_http", OUR_SERVER, proxy::upstream_http),
    case("link_through_a_proxy", ANY, proxy::link_through_a_proxy),
    fast("fast_open_fetches", ANY, transfer::two_hundred_concurrent_fetches),
    fast("fast_open_by_name", ANY, transfer::fetch_by_name),
    fast("fast_open_upload", ANY, transfer::upload_64_mib),
    fast("fast_open_target_speaks_first", ANY, transfer::target_speaks_first),
    fast("fast_open_early_data", ANY, fast_open::early_data),
    fast("fast_open_refused_target", OUR_CLIENT, fast_open::refused_target),
    fast("fast_open_http_connect", ANY, proxy::http_connect),
    fast("fast_open_udp", ANY, udp::udp_over_ipv4),
    case("text_travels_compressed", ANY, compression::text_travels_compressed),
    case("garbage_on_the_http_port", OURS, misbehaviour::garbage_on_the_http_port),
    case("http_answers", ANY_SERVER, misbehaviour::http_answers),
    case("wrong_token_is_answered_and_closed", OURS, misbehaviour::wrong_token_is_answered_and_closed),
    case("malformed_messages_close_their_link", OURS, misbehaviour::malformed_messages_close_their_link),
    case("oversized_message_closes_its_link", OURS, misbehaviour::oversized_message_closes_its_link),
    case("unknown_messages_are_ignored", ANY_SERVER, misbehaviour::unknown_messages_are_ignored),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(TEST_THREADS));

    let ignore_real = !Program::REAL.is_installed()
        && env::var_os("LINKSOCKS_REQUIRE_PEERS").is_none_or(|value| value != "1");
    if ignore_real {
        eprintln!("{}; its tests are ignored", Program::REAL.installation_hint());
    }
    let no_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err();
    if no_ipv6 {
        eprintln!("this machine has no IPv6 loopback, so the tests over IPv6 are ignored");
    }
    let control = env::var_os("LINKSOCKS_INTEROP_CONTROL").is_some_and(|value| value == "1");

    let ours = CASES
        .iter()
        .flat_map(|case| case.pairings.iter().map(move |&pairing| (case, pairing)))
        .filter(|(_, pairing)| control || *pairing != REAL_TO_REAL);
    let other_driver = ours
        .clone()
        .flat_map(|(case, pairing)| pairing.with_other_driver().map(move |pairing| (case, pairing)));
    // One after the other: what is heavy for the published program would run twice at once.
    let trials = ours
        .chain(other_driver)
        .map(|(case, pairing)| {
            let name = format!("{}_to_{}::{}", pairing.client.name(), pairing.server.name(), case.name);
            let ignored = ignore_real && pairing.needs_real() || no_ipv6 && case.name.contains("ipv6");
            Trial::test(name, move || on_this_machine(false, || run(case, pairing)))
                .with_ignored_flag(ignored)
        })
        .chain(network::trials(control, ignore_real))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Runs a case in a tunnel of its own; when it fails, shows what the programs printed.
fn run(case: &Case, pairing: Pairing) -> TestResult {
    let mut tunnel = Tunnel::start(pairing.client, pairing.server, case.options)?;
    let outcome = catch_unwind(AssertUnwindSafe(|| (case.run)(&mut tunnel)));
    if !matches!(outcome, Ok(Ok(()))) {
        eprintln!("{} failed with {pairing:?}\n{}", case.name, tunnel.transcript());
    }
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}
