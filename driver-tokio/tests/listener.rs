//! The pump of a listener.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs, dead_code, unreachable_pub)]

mod common;

use std::net::SocketAddr;

use common::{ANY_PORT, Ids, Reports, patient};
use driver_core::pumps::listener::{self, AcceptCredit};
use driver_tokio::TokioRuntime;
use driver_tokio::linksocks_sansio::Input;
use driver_tokio::linksocks_sansio::error::SocketError;
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::StreamExt;
use tokio::net::{TcpListener, TcpStream};

/// A listener whose accepted peers are told.
fn listen(address: SocketAddr) -> (UnboundedSender<AcceptCredit>, Reports, UnboundedReceiver<SocketAddr>) {
    let (inbox, reports) = Reports::new();
    let (commands, receiver) = unbounded();
    let (peers, accepted) = unbounded();
    tokio::spawn(listener::listen(
        TokioRuntime::current(),
        Ids::new().listener,
        address,
        receiver,
        inbox,
        move |connection| peers.unbounded_send(connection.peer).unwrap(),
    ));
    (commands, reports, accepted)
}

#[tokio::test]
async fn connections_are_accepted_within_credit() {
    let (commands, mut reports, mut accepted) = listen(ANY_PORT);
    let local = |input| match input {
        Input::ListenerOpened { local, .. } => Some(local),
        _ => None,
    };
    let address = reports.expect("ListenerOpened", local).await;
    let mut applications = Vec::new();
    for _ in 0..3 {
        applications.push(TcpStream::connect(address).await.unwrap());
    }
    for (credit, peers) in [(2, 0..2), (1, 2..3)] {
        commands.unbounded_send(AcceptCredit(credit)).unwrap();
        for application in &applications[peers] {
            let peer = patient(accepted.next()).await.unwrap();
            assert_eq!(peer, application.local_addr().unwrap());
        }
        tokio::task::yield_now().await;
        assert!(accepted.try_recv().is_err(), "no more than allowed");
    }
    drop(commands);
    assert!(reports.next().await.is_none());
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn an_address_that_is_taken_is_reported() {
    let taken = TcpListener::bind(ANY_PORT).await.unwrap();
    let (_commands, mut reports, _) = listen(taken.local_addr().unwrap());
    let error = |input| match input {
        Input::ListenerFailed { error, .. } => Some(error),
        _ => None,
    };
    assert_eq!(reports.expect("ListenerFailed", error).await, SocketError::AddressInUse);
}
