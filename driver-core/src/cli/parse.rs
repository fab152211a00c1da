//! From arguments and environment to a [`Command`].

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, CommandFactory, FromArgMatches};

use super::args::{CLIENT_LATER, Cli, Command, Later, OTHER_FLAGS, SERVER_LATER};

/// Environment variables; a blank one counts as unset, as in the Go program.
pub(super) struct Environment(HashMap<OsString, OsString>);

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Self {
        let trimmed = |value: OsString| match value.to_str() {
            Some(text) => text.trim().into(),
            None => value,
        };
        Self(variables.into_iter().map(|(name, value)| (name, trimmed(value))).collect())
    }
}

impl Environment {
    pub(super) fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }
}

/// Reads the command line. `args` begins with the name of the program.
///
/// # Errors
/// What is to be shown instead of running a command: an error, or a help text or version.
pub(super) fn parse(
    args: impl IntoIterator<Item = OsString>,
    environment: &Environment,
) -> Result<Command, clap::Error> {
    let mut args: Vec<_> = args.into_iter().collect();
    if args.is_empty() {
        args.push("linksocks".into());
    }
    let (mut command, variables) = command();
    add_mode(&mut args, environment, &mut command)?;
    if args.len() == 1 {
        args.push("help".into());
    }
    let mut matches = command.try_get_matches_from_mut(&args)?;
    // What the user gave is in order, so whatever is refused from here on is due to a variable.
    for variable in &variables {
        let Some((subcommand, flags)) = matches.subcommand() else { break };
        let given = || flags.value_source(&variable.id) == Some(ValueSource::CommandLine);
        if subcommand != variable.command || given() {
            continue;
        }
        let Some(value) = environment.get(&variable.name) else { continue };
        let mut flag = OsString::from(format!("--{}=", variable.flag));
        flag.push(value);
        args.insert(2, flag);
        matches = command.try_get_matches_from_mut(&args).map_err(|mut error| {
            let hint = format!("the value comes from the environment variable {}", variable.name);
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
            error
        })?;
    }
    read(&mut command, &matches)
}

fn read(command: &mut clap::Command, matches: &ArgMatches) -> Result<Command, clap::Error> {
    let refused = matches.subcommand().and_then(|(name, matches)| {
        let what = match name {
            "client" | "provider" | "connector" => refused_flag(CLIENT_LATER, matches)?,
            "server" => refused_flag(SERVER_LATER, matches)?,
            _ => return None,
        };
        let message = format!("{what} is not supported yet by this version");
        Some(command.find_subcommand_mut(name)?.error(ErrorKind::InvalidValue, message))
    });
    match refused {
        Some(error) => Err(error),
        None => Ok(Cli::from_arg_matches(matches)?.command),
    }
}

fn refused_flag(later: &[Later], matches: &ArgMatches) -> Option<String> {
    let flag = later.iter().find(|flag| is_on(flag, matches))?;
    Some(match flag.variable {
        Some(variable) => format!("--{} ({variable})", flag.flag),
        None => format!("--{}", flag.flag),
    })
}

fn is_on(later: &Later, matches: &ArgMatches) -> bool {
    if later.takes_value {
        matches.get_many::<String>(later.flag).and_then(Iterator::last).is_some_and(|value| !value.is_empty())
    } else {
        matches.get_flag(later.flag)
    }
}

/// Puts the command that `LINKSOCKS_MODE` names before the flags, if no command is given.
fn add_mode(
    args: &mut Vec<OsString>,
    environment: &Environment,
    command: &mut clap::Command,
) -> Result<(), clap::Error> {
    if args.get(1).is_some_and(|arg| !arg.as_encoded_bytes().starts_with(b"-")) {
        return Ok(());
    }
    if args.get(1).is_some_and(|arg| ["-h", "--help", "-V", "--version"].iter().any(|flag| arg == flag)) {
        return Ok(());
    }
    let Some(mode) = environment.get("LINKSOCKS_MODE") else {
        return Ok(());
    };
    let name = match mode.to_string_lossy().to_lowercase().as_str() {
        "client" | "forward" => "client",
        "server" => "server",
        "connector" => "connector",
        "provider" | "reverse" => "provider",
        _ => {
            let message = format!(
                "invalid LINKSOCKS_MODE {mode:?}: expected client, forward, connector, provider, reverse or server"
            );
            return Err(command.error(ErrorKind::InvalidValue, message));
        }
    };
    args.insert(1, name.into());
    Ok(())
}

/// A variable that sets a flag of a command.
struct Variable {
    command: String,
    id: String,
    flag: String,
    name: String,
}

/// The command line as it is parsed, and the variables that its `env` attributes name.
///
/// Those attributes become part of the help texts only: clap would take a blank variable for a
/// value, and would read the environment of the process, which tests can't set.
fn command() -> (clap::Command, Vec<Variable>) {
    let mut variables = Vec::new();
    let command = Cli::command()
        .mut_subcommands(|command| match command.get_name() {
            "client" | "connector" | "provider" => command.args(CLIENT_LATER.iter().map(Later::arg)),
            "server" => command.args(SERVER_LATER.iter().map(Later::arg)),
            _ => command,
        })
        .mut_subcommands(|command| {
            let name = command.get_name().to_owned();
            let command = command.mut_args(|arg| go_switch(take_variable(arg, &name, &mut variables)));
            command.disable_help_flag(true).arg(help())
        });
    (command, variables)
}

/// clap's own help flag would come first, under a heading of its own.
fn help() -> Arg {
    let help = Arg::new("help").short('h').long("help").action(ArgAction::Help);
    help.help("Print help").help_heading(OTHER_FLAGS)
}

fn take_variable(arg: Arg, command: &str, variables: &mut Vec<Variable>) -> Arg {
    let (Some(name), Some(flag)) = (arg.get_env(), arg.get_long()) else {
        return arg;
    };
    let name = name.to_string_lossy().into_owned();
    let help = arg.get_help().map_or_else(String::new, |help| format!("{help} [env: {name}]"));
    let id = arg.get_id().to_string();
    variables.push(Variable { command: command.to_owned(), id, flag: flag.to_owned(), name });
    arg.env(None).help(help)
}

/// Lets a switch be given as in Go: `--flag`, `--flag=true`, `--flag=false`.
fn go_switch(arg: Arg) -> Arg {
    if !matches!(arg.get_action(), ArgAction::SetTrue) {
        return arg;
    }
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value("false")
        .hide_default_value(true)
        .value_name("BOOL")
        .value_parser(go_bool)
}

/// Go's `strconv.ParseBool`.
fn go_bool(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false"),
    }
}

#[cfg(test)]
mod tests;
