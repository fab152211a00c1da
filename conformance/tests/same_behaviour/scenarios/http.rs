//! HTTP: on the SOCKS port of a client, and the API of a server.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

use conformance::interop::socks;
use conformance::interop::target::{self, Target, read_bytes};
use libtest_mimic::Failed;
use linksocks_sansio::ServerConfig;
use linksocks_sansio::error::{LinkError, StopReason};

use super::{Outcome, client_config, forward, token};
use crate::cast::{Stage, Use, wait};
use crate::script::{self, Channel, Step, Way};

pub(super) fn http_connect(stage: &mut Stage) -> Outcome {
    let (_server, client) = forward(stage, |_| (), |_| ())?;
    let proxy = client.socks()?;
    let swap = &[Step::Swap(200_000)];
    Channel::new("swap", Way::Http(proxy), swap, swap).run(stage)?;
    let refused = stage.reserve_port("refused")?;
    let mut stream = script::application(stage, "refused", proxy)?;
    write!(stream, "CONNECT {refused} HTTP/1.1\r\nHost: {refused}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    stage.note("refused", "reply", &answer);
    assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}");
    Ok(())
}

/// Two targets in turn on one connection.
pub(super) fn http_requests_in_absolute_form(stage: &mut Stage) -> Outcome {
    let (_server, client) = forward(stage, |_| (), |_| ())?;
    let targets = [Target::local(target::http)?, Target::local(target::http)?];
    for (target, name) in targets.iter().zip(["first target", "second target"]) {
        stage.name_port(Use::Listener, target.address(), name);
    }
    let mut stream = script::application(stage, "requests", client.socks()?)?;
    for number in 0..4 {
        let (to, length) = (targets[number % 2].address(), 50_000);
        write!(stream, "GET http://{to}/{number}/{length} HTTP/1.1\r\nHost: {to}\r\n\r\n")?;
        let head = script::read_head(&mut stream)?;
        let body = read_bytes(&mut stream, length)?;
        stage.note("requests", "application", &format!("{head} and {}", script::digest(&body)));
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(body == conformance::interop::pattern::random_bytes(number as u64, length), "{number}");
    }
    stream.shutdown(Shutdown::Write)?;
    stage.note("requests", "application", &format!("then {} bytes", target::discard(&mut stream)?));
    Ok(())
}

/// A call of the API: status line and body of the answer.
fn call(stage: &Stage, server: SocketAddr, method: &str, path: &str, body: &str) -> Result<String, Failed> {
    let mut stream = socks::open(server)?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: key\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no head")?;
    let answer = format!("{}: {body}", head.lines().next().unwrap_or_default());
    stage.note("API", &format!("{method} {path}"), &answer);
    Ok(answer)
}

pub(super) fn http_api(stage: &mut Stage) -> Outcome {
    let mut config = ServerConfig::default();
    config.api_keys.push(token("key")?);
    let server = stage.server("server", config, None)?;
    let address = server.handle.local_addr();
    let added = call(stage, address, "POST", "/api/token", r#"{"type":"forward","token":"added"}"#)?;
    assert!(added.contains(r#""success":true"#), "{added}");
    let client = stage.client("client", client_config(address, "added")?)?;
    let swap = &[Step::Swap(1000)];
    Channel::new("swap", Way::Socks(client.socks()?), swap, swap).run(stage)?;
    let status = call(stage, address, "GET", "/api/status", "")?;
    assert!(status.contains(r#""type":"forward","clients_count":1"#), "{status}");
    let removed = call(stage, address, "DELETE", "/api/token/added", "")?;
    assert!(removed.contains(r#""success":true"#), "{removed}");
    let reason = wait(client.handle.stopped());
    assert!(matches!(reason, StopReason::Link(LinkError::Rejected(_))), "{reason}");
    Ok(())
}
