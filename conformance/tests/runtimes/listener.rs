//! The pump of a listener.

use std::net::SocketAddr;

use driver_core::pumps::listener::{self, AcceptCredit};
use driver_core::runtime::{Accepted, Runtime};
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::StreamExt;
use linksocks_sansio::Input;
use linksocks_sansio::error::SocketError;
use tokio::net::{TcpListener, TcpStream};

use crate::common::{ANY_PORT, Ids, Reports, patient, reserved};

scenarios! {
    connections_are_accepted_within_credit,
    #[cfg(target_os = "linux")]
    a_quiet_connection_is_asked_after_soon,
    an_address_that_is_taken_is_reported,
}

/// A pump, and the connections that it has accepted.
struct Rig<S> {
    commands: UnboundedSender<AcceptCredit>,
    reports: Reports,
    accepted: UnboundedReceiver<Accepted<S>>,
}

impl<S: Send + 'static> Rig<S> {
    fn new<R: Runtime<Stream = S>>(runtime: &R, address: SocketAddr) -> Self {
        let (inbox, reports) = Reports::new();
        let (commands, receiver) = unbounded();
        let (connections, accepted) = unbounded();
        runtime.spawn(listener::listen(
            runtime.clone(),
            Ids::new().listener,
            address,
            receiver,
            inbox,
            move |connection| connections.unbounded_send(connection).unwrap(),
        ));
        Self { commands, reports, accepted }
    }

    async fn opened(&mut self) -> SocketAddr {
        let local = |input| match input {
            Input::ListenerOpened { local, .. } => Some(local),
            _ => None,
        };
        self.reports.expect("ListenerOpened", local).await
    }

    fn grant(&self, credit: usize) {
        self.commands.unbounded_send(AcceptCredit(credit)).unwrap();
    }
}

async fn connections_are_accepted_within_credit<R: Runtime>(runtime: R) {
    for grants in [&[2][..], &[2, 1]] {
        let (_port, address) = reserved();
        let mut rig = Rig::new(&runtime, address);
        assert_eq!(rig.opened().await, address);
        let mut applications = Vec::new();
        for _ in 0..5 {
            applications.push(TcpStream::connect(address).await.unwrap());
        }
        let mut waiting = applications.iter();
        for &credit in grants {
            rig.grant(credit);
            for application in waiting.by_ref().take(credit) {
                let accepted = patient(rig.accepted.next()).await.unwrap();
                assert_eq!(accepted.peer, application.local_addr().unwrap());
                assert_eq!(accepted.local, address);
            }
        }
        let Rig { commands, mut reports, mut accepted } = rig;
        drop(commands);
        assert!(reports.next().await.is_none());
        assert!(patient(accepted.next()).await.is_none(), "no more than allowed");
        assert!(TcpStream::connect(address).await.is_err());
    }
}

#[cfg(target_os = "linux")]
async fn a_quiet_connection_is_asked_after_soon<R: Runtime>(runtime: R) {
    let mut rig = Rig::new(&runtime, ANY_PORT);
    let address = rig.opened().await;
    let application = TcpStream::connect(address).await.unwrap();
    rig.grant(1);
    let _accepted = patient(rig.accepted.next()).await.unwrap();
    let application = application.local_addr().unwrap();
    assert!(matches!(patient(keepalive(address, application)).await, Some(1..=15)));
    assert_eq!(patient(keepalive(application, address)).await, None, "the kernel does not on its own");
}

/// In how many seconds the kernel will ask whether `peer` is still there; `None` if it never will.
#[cfg(target_os = "linux")]
async fn keepalive(local: SocketAddr, peer: SocketAddr) -> Option<u64> {
    let hexadecimal = |address: SocketAddr| match address {
        SocketAddr::V4(address) => {
            format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
        }
        SocketAddr::V6(_) => panic!("in another file"),
    };
    let (local, peer) = (hexadecimal(local), hexadecimal(peer));
    loop {
        // See `Documentation/networking/proc_net_tcp.rst` of Linux.
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        if let Some(row) = rows.into_iter().find(|row| row[1] == local && row[2] == peer) {
            let (timer, left) = row[5].split_once(':').unwrap();
            return (timer == "02").then(|| u64::from_str_radix(left, 16).unwrap().div_ceil(100));
        }
        // A table that changes while it is read may lack a row.
        tokio::task::yield_now().await;
    }
}

async fn an_address_that_is_taken_is_reported<R: Runtime>(runtime: R) {
    let taken = TcpListener::bind(ANY_PORT).await.unwrap();
    let mut rig = Rig::new(&runtime, taken.local_addr().unwrap());
    let error = |input| match input {
        Input::ListenerFailed { error, .. } => Some(error),
        _ => None,
    };
    assert_eq!(rig.reports.expect("ListenerFailed", error).await, SocketError::AddressInUse);
}
