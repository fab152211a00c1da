//! Latency on busy links, in virtual time.

use std::time::Duration;

use conformance::sim::load::{Latencies, Load, measure};
use linksocks_sansio::config::ExtensionConfig;
use linksocks_sansio::{ClientConfig, ServerConfig, ServerUrl, Token};

fn configs() -> (ClientConfig, ServerConfig) {
    let token = || Token::new("token").expect("a token");
    let url = ServerUrl::parse("ws://10.0.0.1:8765").expect("a URL");
    (ClientConfig::new(url, token()), ServerConfig::forward(token()).expect("a token"))
}

/// 20 Mbit/s and 40 ms, where kernels keep little more than what is under way (as with
/// `TCP_NOTSENT_LOWAT`).
fn load(upload: bool) -> Load {
    Load {
        bandwidth: 2_500_000,
        round_trip: Duration::from_millis(40),
        kernel_buffer: 64 << 10,
        streams: 8,
        upload,
    }
}

#[test]
fn beside_eight_bulk_streams_a_ping_waits_for_two_messages_at_most() {
    for upload in [false, true] {
        for extensions in [ExtensionConfig::default(), ExtensionConfig::none()] {
            let (client, mut server) = configs();
            server.relay.extensions = extensions;
            let load = load(upload);
            let measured = measure(&load, client, server).unwrap_or_else(|error| panic!("{error}"));
            let idle = Latencies::percentile(&measured.idle, 99);
            let busy = Latencies::percentile(&measured.busy, 99);
            let message = Duration::from_millis(20);
            println!(
                "upload {upload}: idle p99 {idle:?}, busy p50 {:?}, p99 {busy:?}, max {:?}, {:.0} bytes/s, {} pings",
                Latencies::percentile(&measured.busy, 50),
                measured.busy.last(),
                measured.throughput,
                measured.busy.len(),
            );
            assert!(measured.idle.len() > 20 && measured.busy.len() > 100);
            assert!(measured.throughput > 0.95 * load.bandwidth as f64, "the link is busy: {measured:?}");
            assert!(busy <= idle + 2 * message, "idle {idle:?}, busy {busy:?}");
        }
    }
}
