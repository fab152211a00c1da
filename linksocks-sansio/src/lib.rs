//! LinkSocks as pure state machines.
mod arena;
mod backoff;
pub mod config;
pub mod error;
pub mod event;
pub mod ids;
pub mod io;
pub mod link;
mod rng;
mod secret;
pub mod socks5;
mod stats;
mod timer;
mod url;
pub mod wire;

pub use config::{ClientConfig, ServerConfig};
pub use error::ConfigError;
pub use event::Event;
pub use ids::{ChannelId, InstanceId, LinkId, ListenerId, QueryId, SocketId, Ticket};
pub use io::{Action, Command, Engine, Input, Output, ReadBuf};
pub use secret::{Credentials, Token, TokenDigest};
pub use stats::Stats;
pub use url::ServerUrl;
