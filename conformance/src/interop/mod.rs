//! Programs as black boxes: start a server and a client as processes, open SOCKS connections through them to targets
//! in this process, and look at what arrives.
//!
//! Everything blocks, uses plain threads and std sockets on loopback, and has a deadline, so that nothing under test is
//! also used to test it.

mod certificates;
mod error;
pub mod load;
pub mod pattern;
mod process;
pub mod procfs;
mod program;
pub mod socks;
pub mod target;
mod tunnel;
pub mod udp;

pub use error::Error;
pub use process::Process;
pub use program::{Program, REAL_VERSION, ours_path, real_installed};
pub use tunnel::{Options, Tunnel, free_port};

use std::time::Duration;

/// The longest a single connect, read or write may take before a test fails.
pub const IO_TIMEOUT: Duration = Duration::from_secs(30);
