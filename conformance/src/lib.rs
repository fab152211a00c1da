//! Proof that LinkSocks programs agree with each other.
//!
//! * [`interop`]: runs programs (ours and the published one) as processes over loopback and talks through them.

pub mod interop;
