//! Tasks that each do one blocking thing and decide nothing.
//!
//! A pump gets commands through a channel of its own and reports to the engine's [`Inbox`]. Both
//! are unbounded channels that stay short, because everything in them is bounded by credit (see
//! [`linksocks_sansio::io`]). A pump whose command channel is closed has lost its owner and
//! releases what it holds.

pub mod datagrams;
pub mod link;
pub mod listener;
pub mod stream;
pub(crate) mod upgrade;
mod websocket;

use std::future::Future;
use std::pin::pin;

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::future::{Either, select};
use futures_util::stream::StreamExt;
use linksocks_sansio::Input;

/// Where pumps put what has happened. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inbox(UnboundedSender<Input>);

impl Inbox {
    /// An inbox and the end where the owner of the engine takes inputs out.
    #[must_use]
    pub fn new() -> (Self, UnboundedReceiver<Input>) {
        let (sender, receiver) = unbounded();
        (Self(sender), receiver)
    }

    /// Reports `input`.
    pub fn put(&self, input: Input) {
        // Fails only when the engine has stopped: nobody is left to be told.
        let _ = self.0.unbounded_send(input);
    }
}

/// Runs `operation` to its end unless a command that `ends` it comes first, or the owner is gone
/// (`None`). Commands that can wait are added to `early`.
async fn unless_ended<T, C>(
    operation: impl Future<Output = T>,
    commands: &mut UnboundedReceiver<C>,
    early: &mut Vec<C>,
    ends: impl Fn(&C) -> bool,
) -> Result<T, Option<C>> {
    let mut operation = pin!(operation);
    loop {
        match select(operation.as_mut(), commands.next()).await {
            Either::Left((result, _)) => return Ok(result),
            Either::Right((Some(command), _)) if !ends(&command) => early.push(command),
            Either::Right((end, _)) => return Err(end),
        }
    }
}
