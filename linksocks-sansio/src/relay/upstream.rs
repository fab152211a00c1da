//! Dials through an upstream proxy: once the proxy itself is connected, it is asked for the target.

use super::dials::DialFailure;
use super::{Relay, Socket, SocketOwner, Timer};
use crate::dial::{DialKey, DialOwner, ProxyHandshake, UpstreamError};
use crate::error::SocketError;
use crate::ids::SocketId;
use crate::io::{Output, ReadBuf};

/// What may be read from a proxy ahead: what the target has said behind the proxy's answer is given
/// to the channel. It fits into one message.
const READ_AHEAD: usize = 1024;

impl Relay {
    /// Asks the proxy at the other end of `socket` for the target. `false`: there is no proxy.
    pub(super) fn begin_proxy_handshake(&mut self, key: DialKey, socket: SocketId) -> bool {
        let Some(dial) = self.dials.get_mut(key) else { return false };
        let Some(proxy) = &dial.via else { return false };
        match ProxyHandshake::new(proxy, &dial.target) {
            Ok((handshake, greeting)) => {
                dial.attempts.retain(|attempt| *attempt != socket);
                let losers = std::mem::take(&mut dial.attempts);
                dial.attempts.push(socket);
                dial.handshake = Some(handshake);
                self.timers.cancel(Timer::DialStagger(key));
                for loser in losers {
                    self.reset_socket(loser);
                }
                self.write(socket, greeting);
                self.grant_proxy_read(key, socket);
            }
            Err(error) => self.fail_dial(key, DialFailure::Upstream(error)),
        }
        true
    }

    /// Lets the driver read as much of a proxy as can't be lost. A link speaks first, so nothing of
    /// what comes behind the answer could be given to anybody; it must stay where it is.
    fn grant_proxy_read(&mut self, key: DialKey, id: SocketId) {
        let Some(dial) = self.dials.get(key) else { return };
        let (Some(handshake), Some(socket)) = (&dial.handshake, self.sockets.get_mut(id)) else { return };
        let window = match dial.owner {
            DialOwner::Channel(_) => READ_AHEAD,
            DialOwner::Link(_) => handshake.needed(),
        };
        if let Some(credit) = socket.pacer.top_up_exactly(window) {
            self.push(Output::Read { socket: id, credit });
        }
    }

    pub(super) fn on_proxy_read(&mut self, key: DialKey, id: SocketId, buf: &ReadBuf) {
        let Some(dial) = self.dials.get_mut(key) else { return };
        let (Some(handshake), Some(socket)) = (&mut dial.handshake, self.sockets.get_mut(id)) else { return };
        let progress = handshake.handle_bytes(buf.payload());
        socket.pacer.on_released(progress.consumed);
        self.write(id, progress.send);
        match progress.connected {
            Ok(false) => self.grant_proxy_read(key, id),
            Ok(true) => self.finish_dial(key, id, &buf.payload()[progress.consumed..]),
            Err(error) => self.fail_dial(key, DialFailure::Upstream(error)),
        }
    }

    /// The connection to a proxy has ended. `false`: it has not been asked for anything yet.
    pub(super) fn on_proxy_lost(&mut self, key: DialKey, error: SocketError) -> bool {
        let asked = self.dials.get(key).is_some_and(|dial| dial.handshake.is_some());
        if asked {
            self.fail_dial(key, DialFailure::Upstream(UpstreamError::Lost(error)));
        }
        asked
    }

    pub(super) fn on_proxy_eof(&mut self, id: SocketId) {
        if let Some(Socket { owner: SocketOwner::Dial(key), .. }) = self.sockets.get(id) {
            let key = *key;
            self.on_proxy_lost(key, SocketError::UnexpectedEof);
        }
    }
}
