//! Programs as black boxes: start a server and those who log in to it as processes, open SOCKS connections through them to targets
//! in this process, and look at what arrives.
//!
//! Everything blocks, uses plain threads and std sockets on loopback, and has a deadline, so that nothing under test is
//! also used to test it.

mod cast;
mod certificates;
mod driver;
mod error;
pub mod http;
pub mod load;
pub mod matrix;
mod network;
pub mod pattern;
mod process;
pub mod procfs;
mod program;
pub mod socks;
mod start;
pub mod target;
mod tunnel;
pub mod udp;

pub use cast::{Cast, Mode};
pub use driver::Driver;
pub use error::Error;
pub use network::{Layout, Network};
pub use process::Process;
pub use program::{Program, Release, Reverse};
pub use start::free_port;
pub use tunnel::{Options, Tunnel};

use std::time::Duration;

/// The longest a single connect, read or write may take before a test fails.
pub const IO_TIMEOUT: Duration = Duration::from_secs(30);
