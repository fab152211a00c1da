//! Connections end in order, each direction for itself, or at once.

use std::io;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use linksocks_sansio::error::StopReason;

use super::{Outcome, forward};
use crate::cast::{Stage, wait};
use crate::script::{Channel, Step, Way};

pub(super) fn application_ends_first(stage: &mut Stage) -> Outcome {
    let (_server, client) = forward(stage, |_| (), |_| ())?;
    let application = &[Step::Send(300_000), Step::Finish, Step::Drain];
    let target = &[Step::Drain, Step::Send(300_000), Step::Finish];
    Channel::new("upload", Way::Socks(client.socks()?), application, target).run(stage)
}

pub(super) fn target_ends_first(stage: &mut Stage) -> Outcome {
    let (_server, client) = forward(stage, |_| (), |_| ())?;
    let application = &[Step::Drain, Step::Send(300_000), Step::Finish];
    let target = &[Step::Send(300_000), Step::Finish, Step::Drain];
    Channel::new("download", Way::Socks(client.socks()?), application, target).run(stage)
}

/// What was sent before has arrived, so that nothing is lost.
pub(super) fn reset_by_application(stage: &mut Stage) -> Outcome {
    let (_server, client) = forward(stage, |_| (), |_| ())?;
    let application = &[Step::Send(1000), Step::Take(500), Step::Reset];
    let target = &[Step::Take(1000), Step::Send(500), Step::Drain];
    Channel::new("reset", Way::Socks(client.socks()?), application, target).run(stage)
}

/// As [`reset_by_application`].
pub(super) fn reset_by_target(stage: &mut Stage) -> Outcome {
    let (_server, client) = forward(stage, |_| (), |_| ())?;
    let application = &[Step::Send(1000), Step::Take(500), Step::Send(1), Step::Drain];
    let target = &[Step::Take(1000), Step::Send(500), Step::Take(1), Step::Reset];
    Channel::new("reset", Way::Socks(client.socks()?), application, target).run(stage)
}

/// A client that is asked to stop takes nothing new and lets its channel finish.
pub(super) fn graceful_shutdown(stage: &mut Stage) -> Outcome {
    let (_server, client) = forward(stage, |_| (), |_| ())?;
    let proxy = client.socks()?;
    thread::scope(|scope| {
        let (ask, asked) = std::sync::mpsc::channel();
        let handle = &client.handle;
        let stopped =
            scope.spawn(move || asked.recv().is_ok().then(|| wait(handle.shutdown(Duration::from_secs(20)))));
        let shut_down = || {
            ask.send(()).map_err(io::Error::other)?;
            // The port closes once the client has heard.
            while TcpStream::connect(proxy).is_ok() {
                thread::yield_now();
            }
            Ok(())
        };
        let application = &[
            Step::Send(1000),
            Step::Take(1000),
            Step::Call(&shut_down),
            Step::Send(200_000),
            Step::Finish,
            Step::Drain,
        ];
        let target = &[Step::Take(1000), Step::Send(1000), Step::Swap(200_000)];
        Channel::new("last", Way::Socks(proxy), application, target).run(stage)?;
        let reason = stopped.join().map_err(|_| "the shutdown panicked")?;
        assert_eq!(reason, Some(StopReason::Shutdown));
        Ok(())
    })
}
