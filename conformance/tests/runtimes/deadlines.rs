//! How long a server waits for a peer, by a clock that does not run on its own.

use std::time::Duration;

use driver_core::runtime::Runtime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{front, tls};
use conformance::certificates::Authority;

scenarios! {
    a_slow_body_is_cut_off_after_30_s in paused time,
    a_silent_handshake_is_cut_off_after_10_s in paused time,
}

async fn a_slow_body_is_cut_off_after_30_s<R: Runtime>(runtime: R) {
    let server = front::server(&runtime).await;
    let start = tokio::time::Instant::now();
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(front::post("/", "", "body").strip_suffix("dy").unwrap().as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let elapsed = start.elapsed();
    assert!((Duration::from_secs(30)..Duration::from_secs(31)).contains(&elapsed), "{elapsed:?}");
    assert!(answer.is_empty());
}

async fn a_silent_handshake_is_cut_off_after_10_s<R: Runtime>(runtime: R) {
    let server = tls::server(&runtime, &Authority::new().issue(tls::LOCALHOST)).await;
    for beginning in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let start = tokio::time::Instant::now();
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let elapsed = start.elapsed();
        assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&elapsed), "{elapsed:?}");
    }
}
