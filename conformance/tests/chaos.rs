//! Our programs under load while links are cut and processes are killed, for a few seconds per mode. `linksocks-chaos`
//! does the same for longer.
//!
//! Looks at the processes through `/proc`, hence Linux only: elsewhere the trials are ignored.

use std::process::ExitCode;
use std::time::Duration;

use conformance::chaos::{self, Class, Plan};
use conformance::interop::{Mode, Program};
use libtest_mimic::{Arguments, Failed, Trial};

const MIB: u64 = 1 << 20;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each trial has dozens of streams on the way, and looks at how long they stand still.
    arguments.test_threads = Some(1);
    let trials = vec![
        trial("everything_at_once", plan(Program::OURS, Program::OURS_ASYNC_STD, Mode::Forward)),
        // Nothing but pauses is excused then.
        trial(
            "cuts_end_no_stream",
            Plan {
                faults: vec![Class::Cut, Class::Weather],
                ..plan(Program::OURS_ASYNC_STD, Program::OURS, Mode::Forward)
            },
        ),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &'static str, plan: Plan) -> Trial {
    Trial::test(name, move || {
        let report = chaos::run(&plan, &|_| {})?;
        if report.failures() == 0 && report.faults() > 0 && report.complete() > 0 {
            Ok(())
        } else {
            Err(Failed::from(format!("{report}\n{}", report.evidence())))
        }
    })
    .with_ignored_flag(!cfg!(target_os = "linux"))
}

fn plan(server: Program, client: Program, mode: Mode) -> Plan {
    Plan {
        server,
        client,
        modes: vec![mode],
        faults: Class::ALL.to_vec(),
        duration: Duration::from_secs(4),
        seed: 1,
        streams: 20,
        grace: Duration::from_secs(3),
        patience: Duration::from_secs(20),
        interval: Duration::from_millis(250),
        idle_margin: 64 * MIB,
        peak_margin: 256 * MIB,
    }
}
