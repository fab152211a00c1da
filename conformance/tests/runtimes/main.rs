//! What a driver does with real sockets, the same on every runtime.
//!
//! What is under test, be it a pump or a whole client or server, runs on the runtime that a test gets.
//! Applications, targets and whoever else is at the other end of a connection run on a tokio runtime of
//! the trial's own. Trials are named `RUNTIME::MODULE::TEST`.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs, unreachable_pub)]

/// The tests of a module, each a function of a runtime, with the [`Applications`] that it needs if they
/// are not the usual ones.
macro_rules! scenarios {
    ($($(#[$meta:meta])* $test:ident $(on $two:ident threads)? $(in $paused:ident time)?,)*) => {
        pub fn trials<R: driver_core::runtime::Runtime>(suite: &crate::Suite<R>) -> Vec<libtest_mimic::Trial> {
            Vec::from([$(
                $(#[$meta])*
                suite.trial(
                    module_path!(),
                    stringify!($test),
                    scenarios!(@applications $($two)? $($paused)?),
                    $test,
                ),
            )*])
        }
    };
    (@applications) => { crate::Applications::OneThread };
    (@applications two) => { crate::Applications::TwoThreads };
    (@applications paused) => { crate::Applications::PausedTime };
}

mod api;
mod common;
mod crowd;
mod deadlines;
mod door;
mod embed;
mod front;
mod link;
mod listener;
mod proxy;
mod resume;
mod secrets;
mod stream;
mod tls;
mod udp;

use std::process::ExitCode;

use driver_async_std::AsyncStdRuntime;
use driver_core::runtime::Runtime;
use driver_tokio::TokioRuntime;
use libtest_mimic::{Arguments, Trial};
use smol_driver::SmolRuntime;
use tokio::runtime::Builder;

/// A runtime to be tested.
struct Suite<R> {
    name: &'static str,
    /// Called inside of the applications' runtime.
    runtime: fn() -> R,
}

/// The tokio runtime of a trial.
#[derive(Clone, Copy)]
enum Applications {
    OneThread,
    TwoThreads,
    /// One thread, where time jumps to the next timer when nothing else is to be done. That is seen
    /// by drivers on tokio only.
    PausedTime,
}

impl Applications {
    fn start(self) -> tokio::runtime::Runtime {
        let runtime = match self {
            Self::OneThread => Builder::new_current_thread().enable_all().build(),
            Self::TwoThreads => Builder::new_multi_thread().worker_threads(2).enable_all().build(),
            Self::PausedTime => Builder::new_current_thread().enable_all().start_paused(true).build(),
        };
        runtime.unwrap()
    }
}

impl<R: Runtime> Suite<R> {
    fn trial<T: Future<Output = ()>>(
        &self,
        module: &str,
        test: &str,
        applications: Applications,
        run: impl FnOnce(R) -> T + Send + 'static,
    ) -> Trial {
        let (_crate, module) = module.split_once("::").unwrap();
        let runtime = self.runtime;
        Trial::test(format!("{}::{module}::{test}", self.name), move || {
            applications.start().block_on(async { run(runtime()).await });
            Ok(())
        })
    }

    fn trials(&self) -> Vec<Trial> {
        [
            api::trials(self),
            crowd::trials(self),
            door::trials(self),
            embed::trials(self),
            front::trials(self),
            link::trials(self),
            listener::trials(self),
            proxy::trials(self),
            resume::trials(self),
            secrets::trials(self),
            stream::trials(self),
            tls::trials(self),
            udp::trials(self),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn main() -> ExitCode {
    let tokio = Suite { name: "tokio", runtime: TokioRuntime::current };
    let async_std = Suite { name: "async-std", runtime: AsyncStdRuntime::default };
    let smol = Suite { name: "smol", runtime: SmolRuntime::default };
    let trials = [tokio.trials(), deadlines::trials(&tokio), async_std.trials(), smol.trials()];
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect()).exit_code()
}
