//! From the start of an engine to its end: log lines and signals.

use std::future::Future;
use std::time::Duration;

use futures_core::Stream;
use futures_util::{FutureExt as _, StreamExt as _, select_biased};
use linksocks_sansio::Event;
use linksocks_sansio::error::StopReason;
use tracing::info;

use super::events;

/// How a supervised engine ended.
pub(super) enum End {
    /// It stopped.
    Stopped(StopReason),
    /// The user asked twice.
    Interrupted,
}
