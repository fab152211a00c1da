//! Bytes arrive.

use std::net::Ipv6Addr;
use std::thread;

use linksocks_sansio::ServerConfig;
use linksocks_sansio::config::{BatchingMode, RelayConfig};

use super::{Outcome, forward};
use crate::cast::Stage;
use crate::script::{Channel, Step, Way};

const MIB: usize = 1 << 20;

/// A request and its answer.
const ASK: &[Step<'_>] = &[Step::Send(1000), Step::Finish, Step::Drain];
const ANSWER: &[Step<'_>] = &[Step::Take(1000), Step::Send(100_000), Step::Finish, Step::Drain];

pub(super) fn connect_to_ipv4(stage: &mut Stage) -> Outcome {
    let (_server, client) = forward(stage, |_| (), |_| ())?;
    Channel::new("fetch", Way::Socks(client.socks()?), ASK, ANSWER).run(stage)
}

pub(super) fn connect_to_ipv6(stage: &mut Stage) -> Outcome {
    let (_server, client) = forward(stage, |_| (), |_| ())?;
    let fetch = Channel::new("fetch", Way::Socks(client.socks()?), ASK, ANSWER);
    Channel { ip: Ipv6Addr::LOCALHOST.into(), ..fetch }.run(stage)
}

pub(super) fn connect_by_name(stage: &mut Stage) -> Outcome {
    let (_server, client) = forward(stage, |_| (), |_| ())?;
    Channel::new("fetch", Way::Name(client.socks()?), ASK, ANSWER).run(stage)
}

pub(super) fn target_speaks_first(stage: &mut Stage) -> Outcome {
    let (_server, client) = forward(stage, |_| (), |_| ())?;
    let application = &[Step::Take(50_000), Step::Send(10), Step::Finish, Step::Drain];
    let target = &[Step::Send(50_000), Step::Take(10), Step::Finish, Step::Drain];
    Channel::new("greeting", Way::Socks(client.socks()?), application, target).run(stage)
}

/// Both directions at once.
const SWAP: &[Step<'_>] = &[Step::Swap(3 * MIB)];

pub(super) fn three_mib_each_way(stage: &mut Stage) -> Outcome {
    let (_server, client) = forward(stage, |_| (), |_| ())?;
    Channel::new("swap", Way::Socks(client.socks()?), SWAP, SWAP).run(stage)
}

pub(super) fn many_channels(stage: &mut Stage) -> Outcome {
    let (_server, client) = forward(stage, |_| (), |_| ())?;
    fetch_many(stage, Way::Socks(client.socks()?), 40)
}

/// So many channels at once.
pub(super) fn fetch_many(stage: &Stage, way: Way<'_>, count: usize) -> Outcome {
    thread::scope(|scope| {
        let fetches: Vec<_> = (0..count)
            .map(|number| {
                scope.spawn(move || Channel::new(&format!("fetch {number}"), way, ASK, ANSWER).run(stage))
            })
            .collect();
        fetches.into_iter().try_for_each(|fetch| fetch.join().unwrap_or_else(|_| Err("it panicked".into())))
    })
}

pub(super) fn open_without_socks(stage: &mut Stage) -> Outcome {
    let (_server, client) = forward(stage, |_| (), |config| config.listen = None)?;
    Channel::new("fetch", Way::Open(&client.handle), ASK, ANSWER).run(stage)?;
    Channel::new("swap", Way::Open(&client.handle), SWAP, SWAP).run(stage)?;
    let application = &[Step::Send(1000), Step::Take(1), Step::Reset];
    let target = &[Step::Take(1000), Step::Send(1), Step::Drain];
    Channel::new("abandoned", Way::Open(&client.handle), application, target).run(stage)
}

pub(super) fn batching(stage: &mut Stage) -> Outcome {
    let set = |relay: &mut RelayConfig| relay.batching.mode = BatchingMode::Literal;
    let (_server, client) = forward(stage, |config| set(&mut config.relay), |config| set(&mut config.relay))?;
    Channel::new("swap", Way::Socks(client.socks()?), SWAP, SWAP).run(stage)
}

pub(super) fn compression(stage: &mut Stage) -> Outcome {
    let set = |relay: &mut RelayConfig| {
        relay.compression.threshold = 16 * 1024;
        relay.compression.always = true;
    };
    let set_server = |config: &mut ServerConfig| set(&mut config.relay);
    let (server, client) = forward(stage, set_server, |config| set(&mut config.relay))?;
    let upload = &[Step::Text(2 * MIB), Step::Finish, Step::Drain];
    let sink = &[Step::Drain, Step::Send(1), Step::Finish];
    Channel::new("upload", Way::Socks(client.socks()?), upload, sink).run(stage)?;
    let source = &[Step::Text(2 * MIB), Step::Finish, Step::Drain];
    let download = &[Step::Drain, Step::Finish];
    Channel::new("download", Way::Socks(client.socks()?), download, source).run(stage)?;
    for (name, watch) in [("client", client.watch), ("server", server.watch)] {
        assert!(watch.seen().compressed > 0, "text of the {name} travels compressed");
    }
    Ok(())
}
