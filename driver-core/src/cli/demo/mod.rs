//! The command `demo`: the main job of the program, with everything in one process.

mod fetch;
mod pattern;
mod target;

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_core::Stream;
use futures_util::future::{Either, select};
use linksocks_sansio::error::StopReason;
use linksocks_sansio::socks5::{Host, TargetAddr};
use linksocks_sansio::{ClientConfig, ServerConfig, ServerUrl, Token};

use self::pattern::Pattern;
use super::args::DemoArgs;
use super::events::Side;
use super::log::GoDuration;
use super::supervise::{End, supervise};
use super::{Failure, events, random_token, unless_signalled};
use crate::embed::{Client, ClientHandle, Events, Server, ServerHandle};
use crate::runtime::Runtime;

/// The demo takes about a second. If it takes longer than this, something is wrong.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Our own port, chosen by the system.
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

pub(super) async fn run<R: Runtime>(
    runtime: R,
    args: &DemoArgs,
    mut signals: impl Stream<Item = ()> + Unpin,
) -> Result<(), Failure> {
    let limit = runtime.sleep(TIME_LIMIT);
    let play = async {
        match select(pin!(play(&runtime)), pin!(limit)).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => Err(failure("the demo is stuck")),
        }
    };
    let stage = unless_signalled(&mut signals, play).await?;
    if args.serve {
        return serve(&runtime, stage, signals).await;
    }
    stage.client.shutdown(Duration::ZERO).await;
    stage.server.shutdown(Duration::ZERO).await;
    Ok(())
}

/// What runs in this process.
struct Stage {
    web: SocketAddr,
    server: ServerHandle,
    client: ClientHandle,
    /// Of the client.
    events: Events,
    socks: SocketAddr,
}

/// Leaves everything to the user, until a signal comes.
async fn serve<R: Runtime>(
    runtime: &R,
    stage: Stage,
    signals: impl Stream<Item = ()> + Unpin,
) -> Result<(), Failure> {
    say("\nIt stays up until Ctrl-C. Try:\n")?;
    say(&format!("  curl --socks5-hostname {} http://{}/", stage.socks, stage.web))?;
    match supervise(runtime, &stage.client, stage.events, signals, Side::Client).await {
        End::Interrupted => Err(Failure::Interrupted),
        End::Stopped(StopReason::Shutdown) => {
            stage.server.shutdown(Duration::ZERO).await;
            Ok(())
        }
        End::Stopped(reason) => Err(failure(reason)),
    }
}

/// Starts everything and checks it.
async fn play<R: Runtime>(runtime: &R) -> Result<Stage, Failure> {
    let seed = getrandom::u64().map_err(failure)?;
    say("LinkSocks demo: web server, server and client in this process, real sockets on 127.0.0.1\n")?;

    let (listener, web) = runtime.listen(LOOPBACK).await.map_err(failure)?;
    runtime.spawn(target::serve(runtime.clone(), listener, seed));
    say(&format!("  web server   http://{web}"))?;

    let token = Token::new(random_token()?)?;
    let server = ServerConfig::forward(token.clone())?;
    let server = Server::builder(server).bind(LOOPBACK);
    runtime.spawn(events::log_all(Side::Server, server.events()));
    let server = server.start(runtime.clone()).await?;
    let url = format!("ws://{}", server.local_addr());
    say(&format!("  server       {url}"))?;

    let started = Instant::now();
    let mut config = ClientConfig::new(ServerUrl::parse(&url)?, token);
    config.listen = Some(LOOPBACK);
    let client = Client::builder(config);
    let mut events = client.events();
    let client = client.start(runtime.clone()).await?;
    let check = async {
        client.ready().await.map_err(failure)?;
        let socks = client.local_addr().ok_or_else(|| failure("the client does not listen"))?;
        say(&format!("  client       socks5://{socks}, ready in {}\n", GoDuration(started.elapsed())))?;

        let by_name = TargetAddr::new(Host::Name("localhost".to_owned()), web.port());
        for (target, length) in [(web.into(), KIB), (by_name, KIB), (web.into(), 64 * MIB)] {
            fetch(runtime, socks, &target, length, seed).await?;
        }
        say("\nEvery byte arrived as it was sent.")?;
        Ok::<_, Failure>(socks)
    };
    let log = events::log_all(Side::Client, &mut events);
    let socks = match select(pin!(check), pin!(log)).await {
        Either::Left((result, _)) => result?,
        // The client has stopped: the check is about to fail, and says why.
        Either::Right(((), check)) => check.await?,
    };
    Ok(Stage { web, server, client, events, socks })
}

/// Fetches so many bytes through the SOCKS port, checks them all, and tells how fast they came.
async fn fetch<R: Runtime>(
    runtime: &R,
    socks: SocketAddr,
    target: &TargetAddr,
    length: u64,
    seed: u64,
) -> Result<(), Failure> {
    let started = Instant::now();
    let path = target::path(length);
    let mut pattern = Pattern::new(seed);
    let stream = runtime.connect(socks).await.map_err(failure)?;
    let received = fetch::get(stream, target, &path, |bytes| pattern.matches(bytes)).await;
    let received = received.map_err(|error| failure(format!("http://{target}{path}: {error}")))?;
    let time = started.elapsed();
    let size = if received < MIB {
        format!("{} KiB", received / KIB)
    } else {
        let rate = received as f64 / MIB as f64 / time.as_secs_f64();
        format!("{} MiB  {rate:.0} MiB/s", received / MIB)
    };
    say(&format!("  GET http://{target}{path:<18} {:>7}  {size}", GoDuration(time).to_string()))
}

fn failure(error: impl ToString) -> Failure {
    Failure::Running(error.to_string())
}

/// Writes a line of the transcript.
fn say(line: &str) -> Result<(), Failure> {
    writeln!(io::stdout(), "{line}").map_err(failure)
}
