//! What applications are told, and channels that don't come about.

use conformance::interop::socks;
use linksocks_sansio::{Credentials, ServerConfig};

use super::{Outcome, TOKEN, client_config, forward, token};
use crate::cast::{Stage, wait};
use crate::relay::Relay;
use crate::script::{self, Channel, Connection, Step, Way};

/// A little each way.
const PING: &[Step<'_>] = &[Step::Send(10), Step::Finish, Step::Drain];

pub(super) fn login(stage: &mut Stage) -> Outcome {
    let credentials = Credentials::new("user", "password")?;
    let (_server, client) = forward(stage, |_| (), |config| config.credentials = Some(credentials))?;
    let proxy = client.socks()?;
    Channel::new("right", Way::Login(proxy, "user", "password"), PING, PING).run(stage)?;
    let target = stage.reserve_port("never reached")?.into();
    let reply = script::ask(stage, "wrong", proxy, Some(("user", "guess")), &target)?;
    assert!(matches!(reply, Err(socks::Error::Rejected)), "{reply:?}");
    let reply = script::ask(stage, "none", proxy, None, &target)?;
    assert!(matches!(reply, Err(socks::Error::Malformed("method selection"))), "{reply:?}");
    Ok(())
}

pub(super) fn refused_target(stage: &mut Stage) -> Outcome {
    let (_server, client) = forward(stage, |_| (), |_| ())?;
    let target = stage.reserve_port("refused")?;
    let reply = script::ask(stage, "refused", client.socks()?, None, &target.into())?;
    assert!(matches!(reply, Err(socks::Error::Refused(4))), "{reply:?}");
    let error = wait(client.handle.open(target.into())).err().ok_or("it opens")?;
    stage.note("refused", "open()", &error.to_string());
    Ok(())
}

pub(super) fn access_rules(stage: &mut Stage) -> Outcome {
    let names = ["by the client", "by the server"];
    let (near, far) = (stage.reserve_port(names[0])?, stage.reserve_port(names[1])?);
    let (near_rule, far_rule) = (format!("!:{}", near.port()).parse()?, format!("!:{}", far.port()).parse()?);
    let set_server = |config: &mut ServerConfig| config.relay.dial_rules = [far_rule].into_iter().collect();
    let (_server, client) = forward(stage, set_server, |config| {
        config.relay.entry_rules = [near_rule].into_iter().collect();
    })?;
    let proxy = client.socks()?;
    for (name, target, code) in [(names[0], near, 2), (names[1], far, 4)] {
        let reply = script::ask(stage, name, proxy, None, &target.into())?;
        assert!(matches!(reply, Err(socks::Error::Refused(got)) if got == code), "{name}: {reply:?}");
    }
    Channel::new("allowed", Way::Socks(proxy), PING, PING).run(stage)
}

pub(super) fn fast_open(stage: &mut Stage) -> Outcome {
    let (_server, client) = forward(stage, |_| (), |config| config.relay.fast_open = true)?;
    Channel::new("ping", Way::Socks(client.socks()?), PING, PING).run(stage)?;
    let greeting = &[Step::Send(50_000), Step::Finish, Step::Drain];
    let application = &[Step::Drain, Step::Finish];
    Channel::new("greeting", Way::Socks(client.socks()?), application, greeting).run(stage)
}

/// The request is on its way until the application has its answer: a reset could overtake that.
pub(super) fn fast_open_of_a_refused_target(stage: &mut Stage) -> Outcome {
    let server = stage.server("server", ServerConfig::forward(token(TOKEN)?)?, None)?;
    let relay = Relay::start(server.handle.local_addr())?;
    let mut config = client_config(relay.address(), TOKEN)?;
    config.relay.fast_open = true;
    let client = stage.client("client", config)?;
    let target = stage.reserve_port("refused")?;
    relay.hold();
    let stream = script::ask(stage, "refused", client.socks()?, None, &target.into())??;
    relay.release();
    let heard = script::play(Connection::Tcp(stream), &[Step::Drain], 0)?;
    stage.note("refused", "application", &heard.to_string());
    assert!(heard.is_reset(), "{heard}");
    Ok(())
}
