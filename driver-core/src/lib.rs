//! LinkSocks over real sockets, generic over the async runtime.
pub mod cli;
