//! One WebSocket between two peers.

mod extensions;

pub use extensions::{EXTENSIONS_HEADER, Extensions};
