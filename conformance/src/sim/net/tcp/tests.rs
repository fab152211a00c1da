use std::time::Duration;

use bytes::Bytes;
use linksocks_sansio::error::SocketError;

use super::{Connection, End, Path, Read, Side};
use crate::sim::clock::Time;
use crate::sim::net::Owner;

const LATENCY: Duration = Duration::from_millis(10);

/// A connection whose ends have send buffers of 100 bytes and receive buffers of `receive`.
fn connection(receive: usize) -> Connection {
    let path = Path { latency: LATENCY, bandwidth: 1_000_000, stalled_until: Time::ZERO, dead: false };
    let end = || End::new(Owner::Nobody, 100, receive);
    Connection::new(path, end(), end())
}

fn write(connection: &mut Connection, side: Side, length: usize, now: Time) -> usize {
    connection.write(side, &mut Bytes::from(vec![7; length]), now).unwrap()
}

/// Lets everything that is on its way arrive; returns when the last of it did.
fn settle(connection: &mut Connection) -> Time {
    let mut now = Time::ZERO;
    loop {
        let next =
            [Side::Dialer, Side::Listener].into_iter().filter_map(|side| connection.next_arrival(side));
        let Some(next) = next.min() else { return now };
        now = now.max(next);
        connection.arrive(Side::Dialer, now);
        connection.arrive(Side::Listener, now);
    }
}

#[test]
fn bytes_take_transmission_time_and_latency() {
    let mut connection = connection(1000);
    write(&mut connection, Side::Dialer, 50, Time::ZERO);
    let arrival = Time::ZERO + LATENCY + Duration::from_micros(50);
    assert_eq!(connection.next_arrival(Side::Dialer), Some(arrival));
    assert!(!connection.arrive(Side::Dialer, Time::ZERO + LATENCY));
    assert_eq!(connection.read(Side::Listener, 9, arrival), Ok(Read::Pending));
    assert!(connection.arrive(Side::Dialer, arrival));
    assert_eq!(connection.read(Side::Listener, 9, arrival), Ok(Read::Data(Bytes::from(vec![7; 9]))));
}

#[test]
fn a_reader_that_does_not_read_stops_the_writer() {
    let mut connection = connection(60);
    assert_eq!(write(&mut connection, Side::Dialer, 500, Time::ZERO), 100, "the send buffer holds 100");
    let now = settle(&mut connection);
    assert_eq!(write(&mut connection, Side::Dialer, 500, now), 60, "as much as the receive buffer took");
    assert_eq!(write(&mut connection, Side::Dialer, 500, now), 0);
    assert!(matches!(connection.read(Side::Listener, 100, now), Ok(Read::Data(_))));
    assert!(connection.next_arrival(Side::Dialer).is_some(), "reading opens the window");
}

#[test]
fn a_fin_comes_after_the_last_byte_and_leaves_the_other_direction_open() {
    let mut connection = connection(1000);
    write(&mut connection, Side::Dialer, 20, Time::ZERO);
    connection.shutdown_write(Side::Dialer, Time::ZERO);
    let now = settle(&mut connection);
    assert!(matches!(connection.read(Side::Listener, 100, now), Ok(Read::Data(bytes)) if bytes.len() == 20));
    assert_eq!(connection.read(Side::Listener, 100, now), Ok(Read::Eof));
    assert_eq!(write(&mut connection, Side::Listener, 5, now), 5);
}

#[test]
fn closing_after_reading_everything_is_a_fin() {
    let mut connection = connection(1000);
    write(&mut connection, Side::Listener, 30, Time::ZERO);
    assert!(connection.release(Side::Listener, Time::ZERO));
    let now = settle(&mut connection);
    assert!(matches!(connection.read(Side::Dialer, 100, now), Ok(Read::Data(bytes)) if bytes.len() == 30));
    assert_eq!(connection.read(Side::Dialer, 100, now), Ok(Read::Eof));
}

#[test]
fn closing_with_unread_bytes_is_a_reset_that_destroys_what_was_not_read() {
    let mut connection = connection(1000);
    write(&mut connection, Side::Listener, 30, Time::ZERO);
    write(&mut connection, Side::Dialer, 1, Time::ZERO);
    let now = settle(&mut connection);
    assert!(!connection.release(Side::Listener, now));
    settle(&mut connection);
    assert_eq!(connection.read(Side::Dialer, 100, now), Err(SocketError::Reset));
}

#[test]
fn bytes_for_a_closed_descriptor_are_answered_with_a_reset() {
    let mut connection = connection(1000);
    assert!(connection.release(Side::Listener, Time::ZERO));
    let now = settle(&mut connection);
    assert_eq!(connection.read(Side::Dialer, 1, now), Ok(Read::Eof));
    write(&mut connection, Side::Dialer, 1, now);
    settle(&mut connection);
    assert_eq!(connection.end(Side::Dialer).error(), Some(SocketError::Reset));
}

#[test]
fn a_stalled_path_delays_and_a_dead_one_swallows() {
    let mut connection = connection(1000);
    write(&mut connection, Side::Dialer, 1, Time::ZERO);
    connection.path.stalled_until = Time::from_secs(9);
    assert_eq!(connection.next_arrival(Side::Dialer), Some(Time::from_secs(9)));
    connection.path.dead = true;
    assert_eq!(connection.next_arrival(Side::Dialer), None);
}
