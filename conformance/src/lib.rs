//! Proof that LinkSocks programs agree with each other.
//!
//! * [`interop`]: runs programs (ours and the published one) as processes over loopback and talks through them.
//! * [`bench`]: measures such programs against each other, interleaved.

pub mod bench;
pub mod interop;
