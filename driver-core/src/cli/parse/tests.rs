use std::ffi::OsString;

use clap::error::ErrorKind;

use super::super::args::{ClientArgs, Command, ServerArgs};
use super::{Environment, command, parse};

type Variables<'a> = &'a [(&'a str, &'a str)];

fn run(line: &str, variables: Variables<'_>) -> Result<Command, clap::Error> {
    let environment: Environment =
        variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    parse(line.split(' ').map(OsString::from), &environment)
}

fn client(line: &str, variables: Variables<'_>) -> ClientArgs {
    let command = run(line, variables).unwrap_or_else(|error| panic!("{line}: {error}"));
    let Command::Client(args) = command else { panic!("{line} gave {command:?}") };
    args
}

fn server(line: &str, variables: Variables<'_>) -> ServerArgs {
    let command = run(line, variables).unwrap_or_else(|error| panic!("{line}: {error}"));
    let Command::Server(args) = command else { panic!("{line} gave {command:?}") };
    args
}

fn refusal(line: &str, variables: Variables<'_>) -> String {
    let error = run(line, variables).expect_err(line);
    assert!(error.use_stderr(), "{line} shows {error}");
    error.to_string()
}

#[test]
fn the_definition_is_consistent() {
    command().0.debug_assert();
}

#[test]
fn defaults_are_those_of_the_go_program() {
    let args = client("linksocks client", &[]);
    assert_eq!((args.token, args.url.as_str()), (None, "ws://localhost:8765"));
    assert_eq!((args.socks_host.as_str(), args.socks_port), ("127.0.0.1", 9870));
    assert_eq!((args.threads, args.debug), (1, 0));
    assert!(!args.socks_no_wait && !args.no_reconnect && !args.no_env_proxy);
    let args = server("linksocks server", &[]);
    assert_eq!((args.token, args.ws_host.as_str(), args.ws_port), (None, "0.0.0.0", 8765));
}

#[cfg(feature = "tls")]
#[test]
fn the_commands_of_the_readme_are_understood() {
    let readme = include_str!("../../../../README.md");
    let mut commands = 0;
    for line in readme.lines().filter(|line| line.starts_with("linksocks ")) {
        let line = line.split('#').next().unwrap_or_default().replace('\'', "");
        let words: Vec<_> = line.split_whitespace().collect();
        run(&words.join(" "), &[]).unwrap_or_else(|error| panic!("{line}: {error}"));
        commands += 1;
    }
    assert!(commands >= 5, "{commands} commands found");
}

#[test]
fn every_way_to_write_a_flag_in_go_works() {
    for line in ["-p 1080", "-p1080", "-p=1080", "--socks-port 1080", "--socks-port=1080", "-p 1 -p 1080"] {
        assert_eq!(client(&format!("linksocks client {line}"), &[]).socks_port, 1080, "{line}");
    }
    for (line, on) in [
        ("-R", true),
        ("--no-reconnect", true),
        ("--no-reconnect=true", true),
        ("--no-reconnect=T", true),
        ("-R=1", true),
        ("-R=false", false),
        ("--no-reconnect=0", false),
        ("-R -R=false", false),
        ("-iR", true),
        ("-Ri", true),
    ] {
        assert_eq!(client(&format!("linksocks client {line}"), &[]).no_reconnect, on, "{line}");
    }
    for (line, debug) in [("-d", 1), ("-dd", 2), ("-d -d", 2), ("--debug --debug", 2), ("-iddR", 2)] {
        assert_eq!(client(&format!("linksocks client {line}"), &[]).debug, debug, "{line}");
    }
    assert_eq!(client("linksocks client -T -1", &[]).threads, -1);
    let args =
        client("linksocks client -t a -u b -s c -n d -w e -i -R -T 4 -E --direct-mode relay-only", &[]);
    assert_eq!(args.token.as_deref(), Some("a"));
    assert_eq!((args.url.as_str(), args.socks_host.as_str()), ("b", "c"));
    assert_eq!((args.socks_username.as_deref(), args.socks_password.as_deref()), (Some("d"), Some("e")));
    assert!(args.socks_no_wait && args.no_reconnect && args.threads == 4 && args.no_env_proxy);
    let args = server("linksocks server -H ::1 -P 80 -t x -dd", &[]);
    assert_eq!((args.ws_host.as_str(), args.ws_port, args.debug), ("::1", 80, 2));
    assert_eq!(args.token.as_deref(), Some("x"));
}

#[test]
fn variables_set_flags_and_flags_win() {
    let all = [
        ("LINKSOCKS_TOKEN", "env-token"),
        ("LINKSOCKS_URL", "ws://env"),
        ("LINKSOCKS_SOCKS_HOST", "::1"),
        ("LINKSOCKS_SOCKS_PORT", " 1 "),
        ("LINKSOCKS_SOCKS_USERNAME", "-name"),
        ("LINKSOCKS_SOCKS_PASSWORD", "a b=c"),
    ];
    let args = client("linksocks client", &all);
    assert_eq!(args.token.as_deref(), Some("env-token"));
    assert_eq!((args.url.as_str(), args.socks_host.as_str(), args.socks_port), ("ws://env", "::1", 1));
    assert_eq!(args.socks_username.as_deref(), Some("-name"));
    assert_eq!(args.socks_password.as_deref(), Some("a b=c"));
    let args = client("linksocks client -t mine --socks-port 2", &all);
    assert_eq!((args.token.as_deref(), args.socks_port, args.url.as_str()), (Some("mine"), 2, "ws://env"));

    let args = server(
        "linksocks server -P 7",
        &[("LINKSOCKS_WEBSOCKET_HOST", "::"), ("LINKSOCKS_WEBSOCKET_PORT", "8"), ("LINKSOCKS_TOKEN", "t")],
    );
    assert_eq!((args.ws_host.as_str(), args.ws_port, args.token.as_deref()), ("::", 7, Some("t")));
}

#[test]
fn a_blank_variable_counts_as_unset() {
    let blank = [("LINKSOCKS_SOCKS_PORT", ""), ("LINKSOCKS_TOKEN", " "), ("LINKSOCKS_FASTOPEN", "")];
    let args = client("linksocks client", &blank);
    assert_eq!((args.socks_port, args.token), (9870, None));
}

#[test]
fn an_error_names_the_variable_if_it_is_due_to_one() {
    let error = refusal("linksocks client", &[("LINKSOCKS_SOCKS_PORT", "many")]);
    assert!(error.contains("'many'") && error.contains("LINKSOCKS_SOCKS_PORT"), "{error}");
    let error = refusal("linksocks client -p few", &[("LINKSOCKS_SOCKS_PORT", "many")]);
    assert!(error.contains("'few'") && !error.contains("LINKSOCKS"), "{error}");
    let args = client("linksocks client -p 5", &[("LINKSOCKS_SOCKS_PORT", "many")]);
    assert_eq!(args.socks_port, 5, "a flag hides what is wrong with its variable");
    let args = client("linksocks client -x=", &[("LINKSOCKS_UPSTREAM_PROXY", "socks5://h")]);
    assert_eq!(args.socks_port, 9870, "an empty value turns off what the variable turns on");
}

#[test]
fn the_mode_supplies_a_missing_command() {
    let mode = |mode| [("LINKSOCKS_MODE", mode)];
    client("linksocks", &mode("client"));
    client("linksocks", &mode(" Forward "));
    assert_eq!(client("linksocks -t x", &mode("forward")).token.as_deref(), Some("x"));
    server("linksocks -P 1", &mode("server"));
    client("linksocks client", &mode("server"));
    client("linksocks client", &mode("nonsense"));
    assert!(refusal("linksocks", &mode("nonsense")).contains("nonsense"));
    assert_eq!(run("linksocks --help", &mode("nonsense")).unwrap_err().kind(), ErrorKind::DisplayHelp);
    for (name, provides) in [("provider", true), ("reverse", true), ("connector", false)] {
        let command = run("linksocks -t x", &mode(name)).unwrap();
        assert_eq!(matches!(command, Command::Provider(_)), provides, "{name}");
        assert_eq!(matches!(command, Command::Connector(_)), !provides, "{name}");
    }
    let both = [("LINKSOCKS_MODE", "client"), ("LINKSOCKS_SOCKS_PORT", "5")];
    assert_eq!(client("linksocks", &both).socks_port, 5);
}

#[test]
fn switches_can_be_set_by_variables() {
    let switches = |line: &str, variables| {
        let args = client(&format!("linksocks client{line}"), variables);
        (args.fast_open, args.retry_auth)
    };
    assert_eq!(switches("", &[]), (false, false));
    assert_eq!(switches(" -if --retry-auth", &[]), (true, true));
    let both = [("LINKSOCKS_FASTOPEN", "true"), ("LINKSOCKS_RETRY_AUTH", "1")];
    assert_eq!(switches("", &both), (true, true));
    assert_eq!(switches(" --fast-open=false", &both), (false, true));
    let off = [("LINKSOCKS_FASTOPEN", "false"), ("LINKSOCKS_RETRY_AUTH", "0")];
    assert_eq!(switches("", &off), (false, false));
    assert_eq!(switches(" -f", &off), (true, false));
    let error = refusal("linksocks client", &[("LINKSOCKS_FASTOPEN", "maybe")]);
    assert!(error.contains("true or false") && error.contains("LINKSOCKS_FASTOPEN"), "{error}");
}

#[test]
fn durations_are_written_as_in_go() {
    let args = client("linksocks client --reconnect-delay 1m1.5s", &[]);
    assert_eq!(args.reconnect_delay.map(|delay| delay.as_millis()), Some(61_500));
    assert_eq!(client("linksocks client", &[]).reconnect_delay, None);
    for flag in
        ["--reconnect-delay", "--connect-timeout", "--channel-timeout", "--udp-idle", "--transport-grace"]
    {
        let error = refusal(&format!("linksocks client {flag}=5"), &[]);
        assert!(error.contains(flag) && error.contains("30s, 1.5s or 1h30m"), "{error}");
    }
    refusal("linksocks client --reconnect-delay 0", &[]);
    server("linksocks server --connect-timeout=3s --channel-timeout 0", &[]);
}

#[test]
fn both_commands_take_an_upstream_proxy() {
    let variable = [("LINKSOCKS_UPSTREAM_PROXY", "socks5://env")];
    assert_eq!(client("linksocks client", &variable).upstream_proxy.as_deref(), Some("socks5://env"));
    assert_eq!(server("linksocks server", &variable).upstream_proxy.as_deref(), Some("socks5://env"));
    let args = client("linksocks client -x http://flag", &variable);
    assert_eq!(args.upstream_proxy.as_deref(), Some("http://flag"));
    let args = server("linksocks server --upstream-proxy=http://flag", &variable);
    assert_eq!(args.upstream_proxy.as_deref(), Some("http://flag"));
}

#[test]
fn access_rules_add_up_and_bad_values_are_explained() {
    let args = server("linksocks server --access-rule !private --access-rule=:443", &[]);
    assert_eq!(args.access_rule.len(), 2);
    for command in ["client", "server"] {
        let error = refusal(&format!("linksocks {command} --access-rule example.com:80"), &[]);
        assert!(error.contains("--access-rule") && error.contains("'example.com' is no address"), "{error}");
    }
}

#[test]
fn flags_of_reverse_and_agent_mode_are_those_of_the_go_program() {
    let args = server("linksocks server -r -a -c ct -s ::1 -p 1 -n me -w word -i -k key -f", &[]);
    assert!(args.reverse && args.connector_autonomy && args.socks_nowait && args.fast_open);
    assert_eq!((args.connector_token.as_deref(), args.api_key.as_deref()), (Some("ct"), Some("key")));
    assert_eq!((args.socks_host.as_str(), args.socks_port), ("::1", 1));
    assert_eq!(args.connector_wait_provider.as_secs(), 5);
    let args = server("linksocks server --connector-wait-provider 250ms", &[]);
    assert_eq!(args.connector_wait_provider.as_millis(), 250);
    let variables = [
        ("LINKSOCKS_CONNECTOR_TOKEN", "ct"),
        ("LINKSOCKS_CONNECTOR_AUTONOMY", "true"),
        ("LINKSOCKS_API_KEY", "key"),
    ];
    let args = server("linksocks server", &variables);
    assert!(args.connector_autonomy && !args.reverse);
    assert_eq!((args.connector_token.as_deref(), args.api_key.as_deref()), (Some("ct"), Some("key")));
    let args = client("linksocks client -r -c mine", &[]);
    assert!(args.reverse && args.connector_token.as_deref() == Some("mine"));
    assert_eq!(client("linksocks client", &variables[..1]).connector_token.as_deref(), Some("ct"));
}

#[test]
fn flags_of_direct_mode_are_read_and_named() {
    let args = client("linksocks client --stun-server a --stun-server b --direct-upnp", &[]);
    assert_eq!(args.ignored, ["stun-server", "direct-upnp"]);
    assert_eq!(client("linksocks client --direct-upnp=false", &[]).ignored, [""; 0]);
    let args = server("linksocks server --direct-enable --direct-rendezvous-port 1", &[]);
    assert_eq!(args.ignored, ["direct-enable", "direct-rendezvous-port"]);
    assert!(refusal("linksocks client --direct-mode direct-only", &[]).contains("not supported"));
}

#[test]
fn nonsense_is_refused() {
    for line in [
        "frobnicate",
        "client --frobnicate",
        "client extra",
        "client -p 65536",
        "client -p",
        "client -R=maybe",
        "client -T many",
        "client --direct-mode sometimes",
        "server -P -1",
        "demo extra",
    ] {
        refusal(&format!("linksocks {line}"), &[]);
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for (line, kind, part) in [
        ("linksocks", ErrorKind::DisplayHelp, "demo"),
        ("linksocks --help", ErrorKind::DisplayHelp, "Exit status"),
        ("linksocks help client", ErrorKind::DisplayHelp, "[env: LINKSOCKS_TOKEN]"),
        ("linksocks server -h", ErrorKind::DisplayHelp, "[env: LINKSOCKS_WEBSOCKET_PORT]"),
        ("linksocks --version", ErrorKind::DisplayVersion, "linksocks version v"),
    ] {
        let shown = run(line, &[]).expect_err(line);
        assert_eq!(shown.kind(), kind, "{line}");
        assert!(!shown.use_stderr() && shown.to_string().contains(part), "{line}: {shown}");
    }
    assert!(matches!(run("linksocks version", &[]), Ok(Command::Version)));
    assert!(matches!(run("linksocks demo", &[]), Ok(Command::Demo(args)) if !args.serve));
    assert!(matches!(run("linksocks demo --serve", &[]), Ok(Command::Demo(args)) if args.serve));
}
