//! Our programs, as people and scripts use them: the same for all of them.
//!
//! Trials are named `PROGRAM::TEST`, those that compare the programs `equal::TEST`.

#![allow(clippy::unwrap_used)]

mod commands;
mod equal;
mod pressure;
mod program;
mod secrets;
mod tls;

use std::process::ExitCode;

use conformance::interop::Driver;
use libtest_mimic::{Arguments, Trial};

/// A function with its name.
type Named<F> = (&'static str, F);

macro_rules! named {
    ($($module:ident::$function:ident,)*) => { &[$((stringify!($function), $module::$function)),*] };
}

/// What is asked of each program.
const TESTS: &[Named<fn(Driver)>] = named![
    commands::help_and_version_go_to_standard_output,
    commands::errors_in_arguments_go_to_standard_error,
    commands::the_demo_succeeds,
    commands::the_demo_stays_up_if_it_shall,
    commands::with_fast_open_a_refused_target_resets_the_connection,
    commands::client_and_server_write_the_lines_that_scripts_watch,
    commands::a_trusted_proxy_says_who_is_logged,
    commands::a_generated_token_is_shown_and_works,
    commands::several_links_count_up,
    commands::a_wrong_token_ends_the_client_without_a_retry,
    commands::a_wrong_token_is_tried_again_if_it_shall,
    commands::a_port_in_use_is_an_error,
    commands::a_client_without_server_retries_until_it_is_stopped,
    commands::a_second_signal_resets_connections_instead_of_waiting_for_them,
    pressure::output_that_nobody_reads_stops_nothing,
    pressure::out_of_descriptors_a_server_waits_and_says_so_once,
    pressure::a_crowd_from_one_address_is_told_of_once,
    pressure::the_limit_of_descriptors_is_raised,
    secrets::no_secret_and_no_payload_is_logged,
    tls::who_is_trusted_is_up_to_flags_and_the_system,
    tls::a_certificate_is_for_its_name_and_its_time,
    tls::a_server_without_tls_is_told_from_one_with_it,
    tls::a_server_does_not_start_with_files_that_make_no_sense,
    tls::headers_are_sent,
];

/// What is asked of all of them together.
const COMPARISONS: &[Named<fn()>] =
    named![equal::help_version_and_errors_in_arguments, equal::logs_of_a_session,];

fn main() -> ExitCode {
    let of_each = Driver::ALL.into_iter().flat_map(|driver| {
        TESTS.iter().map(move |&(name, test)| trial(driver.name(), name, move || test(driver)))
    });
    let of_all = COMPARISONS.iter().map(|&(name, test)| trial("equal", name, test));
    libtest_mimic::run(&Arguments::from_args(), of_each.chain(of_all).collect()).exit_code()
}

/// Ignored on Windows, where nobody can send signals.
fn trial(group: &str, name: &str, test: impl FnOnce() + Send + 'static) -> Trial {
    let run = move || {
        test();
        Ok(())
    };
    Trial::test(format!("{group}::{name}"), run).with_ignored_flag(!cfg!(unix))
}
