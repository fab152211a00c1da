//! Links that are cut while streams run over them, with real sockets everywhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use driver_core::embed::{Client, ClientHandle, Server, ServerHandle};
use driver_core::runtime::Runtime;
use linksocks_sansio::error::ChannelError;
use linksocks_sansio::socks5::TargetAddr;
use linksocks_sansio::{ClientConfig, Event, ServerConfig, ServerUrl, Token};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use crate::common::{ANY_PORT, PATIENCE, patient};

scenarios! {
    of_fifty_cuts_an_application_notices_only_the_delay on two threads,
    without_a_grace_time_streams_are_reset,
}

const MIB: usize = 1 << 20;
const CHUNK: usize = 64 * 1024;

/// A proxy that cuts connections after so many bytes, and so many times.
struct Shears {
    address: SocketAddr,
    cuts: Arc<AtomicUsize>,
}

impl Shears {
    async fn new(server: SocketAddr, every: usize, most: usize) -> Self {
        let listener = TcpListener::bind(ANY_PORT).await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(AtomicUsize::new(0));
        let done = cuts.clone();
        tokio::spawn(async move {
            // Half of the cuts only the client notices: the server keeps the dead link.
            let mut half_open = Vec::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut far = TcpStream::connect(server).await.unwrap();
                let left = if done.load(Ordering::Relaxed) < most { every } else { usize::MAX };
                if !carry(&mut near, &mut far, left).await {
                    continue;
                }
                let number = done.fetch_add(1, Ordering::Relaxed);
                near.set_zero_linger().unwrap();
                if number.is_multiple_of(2) {
                    far.set_zero_linger().unwrap();
                } else {
                    half_open.push(far);
                }
            }
        });
        Self { address, cuts }
    }
}

/// Carries bytes both ways, until `left` have passed or one side has ended. Whether they have passed.
async fn carry(near: &mut TcpStream, far: &mut TcpStream, mut left: usize) -> bool {
    let (mut up, mut down) = (vec![0; CHUNK], vec![0; CHUNK]);
    let ((mut near_read, mut near_write), (mut far_read, mut far_write)) = (near.split(), far.split());
    while left > 0 {
        let (length, written) = tokio::select! {
            read = near_read.read(&mut up) => match read {
                Ok(length @ 1..) => (length, far_write.write_all(&up[..length.min(left)]).await),
                _ => return false,
            },
            read = far_read.read(&mut down) => match read {
                Ok(length @ 1..) => (length, near_write.write_all(&down[..length.min(left)]).await),
                _ => return false,
            },
        };
        if written.is_err() {
            return false;
        }
        left = left.saturating_sub(length);
    }
    true
}

async fn pair<R: Runtime>(
    runtime: &R,
    every: usize,
    most: usize,
    grace: Duration,
) -> (ServerHandle, ClientHandle, Shears) {
    let config = ServerConfig::forward(Token::new("secret").unwrap()).unwrap();
    let server = Server::builder(config).bind(ANY_PORT).start(runtime.clone()).await.unwrap();
    let shears = Shears::new(server.local_addr(), every, most).await;
    let url = ServerUrl::parse(&format!("ws://{}", shears.address)).unwrap();
    let mut config = ClientConfig::new(url, Token::new("secret").unwrap());
    config.backoff.first = Duration::from_millis(10);
    config.relay.timeouts.transport_grace = grace;
    let client = Client::builder(config).start(runtime.clone()).await.unwrap();
    patient(client.ready()).await.unwrap();
    (server, client, shears)
}

/// Sends bytes that are different everywhere and can't be compressed, then EOF. Returns their hash.
async fn send(mut to: impl AsyncWrite + Unpin, length: usize) -> String {
    let (mut hash, mut state) = (Sha256::new(), 0x2545_f491_4f6c_dd1d_u64);
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    for _ in 0..length / CHUNK {
        let chunk: Vec<u8> = (0..CHUNK / 8).flat_map(|_| word()).collect();
        hash.update(&chunk);
        to.write_all(&chunk).await.unwrap();
    }
    to.shutdown().await.unwrap();
    format!("{:x?}", hash.finalize())
}

/// Receives everything until EOF. Returns its length and hash.
async fn receive(mut from: impl AsyncRead + Unpin) -> (usize, String) {
    let (mut hash, mut length, mut buffer) = (Sha256::new(), 0, vec![0; CHUNK]);
    loop {
        match from.read(&mut buffer).await.unwrap() {
            0 => return (length, format!("{:x?}", hash.finalize())),
            read => {
                hash.update(&buffer[..read]);
                length += read;
            }
        }
    }
}

async fn of_fifty_cuts_an_application_notices_only_the_delay<R: Runtime>(runtime: R) {
    let (down, up) = (256 * MIB, 32 * MIB);
    let (server, client, shears) = pair(&runtime, 5 * MIB, 50, PATIENCE).await;
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    let target = TargetAddr { host: address.ip().into(), port: address.port() };
    let (stream, accepted) = tokio::join!(patient(client.open(target)), patient(listener.accept()));
    let (read, write) = tokio::io::split(stream.unwrap().compat());
    let (target_read, target_write) = accepted.unwrap().0.into_split();
    let all = async {
        tokio::join!(send(target_write, down), receive(read), send(write, up), receive(target_read))
    };
    let (sent_down, got_down, sent_up, got_up) =
        tokio::time::timeout(3 * PATIENCE, all).await.expect("cuts cost time, but not so much");
    assert_eq!((got_down, got_up), ((down, sent_down), (up, sent_up)));
    assert_eq!(shears.cuts.load(Ordering::Relaxed), 50);
    // A link may be cut before it has taken over.
    assert!(client.stats().await.links_resumed >= 40);
    assert!(server.stats().await.links_resumed >= 40);
}

async fn without_a_grace_time_streams_are_reset<R: Runtime>(runtime: R) {
    let (_server, client, shears) = pair(&runtime, MIB, 1, Duration::ZERO).await;
    let mut events = client.events();
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    let target = TargetAddr { host: address.ip().into(), port: address.port() };
    let (stream, accepted) = tokio::join!(patient(client.open(target)), patient(listener.accept()));
    let mut stream = stream.unwrap().compat();
    let mut target = accepted.unwrap().0;
    let send = async { while target.write_all(&[0; CHUNK]).await.is_ok() {} };
    let receive = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => panic!("a clean end"),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    };
    let (error, ()) = patient(async { tokio::join!(receive, send) }).await;
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(shears.cuts.load(Ordering::Relaxed), 1);
    let lost = async {
        while !matches!(
            events.next().await,
            Some(Event::ChannelClosed { error: Some(ChannelError::LinkLost), .. })
        ) {}
    };
    patient(lost).await;
}
