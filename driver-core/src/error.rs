//! From the operating system's errors to the engine's.

use std::error::Error as _;
use std::io;

use linksocks_sansio::error::{LinkFailure, SocketError};

/// Error codes for "out of descriptors or buffers", which have no [`io::ErrorKind`]: ENFILE,
/// EMFILE, ENOBUFS on Linux and on the BSDs.
#[cfg(unix)]
const EXHAUSTED: [i32; 4] = [23, 24, 105, 55];
/// WSAEMFILE, WSAENOBUFS.
#[cfg(windows)]
const EXHAUSTED: [i32; 2] = [10_024, 10_055];
#[cfg(not(any(unix, windows)))]
const EXHAUSTED: [i32; 0] = [];

/// The engine's name for a failed socket operation.
#[must_use]
#[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds have no name of their own here")]
pub(crate) fn socket_error(error: &io::Error) -> SocketError {
    use io::ErrorKind as Kind;
    if error.raw_os_error().is_some_and(|code| EXHAUSTED.contains(&code)) {
        return SocketError::Exhausted;
    }
    match error.kind() {
        Kind::ConnectionRefused => SocketError::Refused,
        Kind::ConnectionReset | Kind::ConnectionAborted => SocketError::Reset,
        Kind::BrokenPipe | Kind::NotConnected | Kind::WriteZero => SocketError::BrokenPipe,
        Kind::TimedOut => SocketError::TimedOut,
        Kind::HostUnreachable => SocketError::HostUnreachable,
        Kind::NetworkUnreachable | Kind::NetworkDown => SocketError::NetworkUnreachable,
        Kind::AddrInUse => SocketError::AddressInUse,
        Kind::AddrNotAvailable => SocketError::AddressNotAvailable,
        Kind::PermissionDenied => SocketError::PermissionDenied,
        Kind::OutOfMemory => SocketError::Exhausted,
        Kind::UnexpectedEof => SocketError::UnexpectedEof,
        _ => SocketError::Other,
    }
}

/// The engine's name for a failed upgrade.
#[must_use]
pub(crate) fn upgrade_error(error: &hyper::Error) -> LinkFailure {
    if let Some(error) = error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        LinkFailure::Io(socket_error(error))
    } else if error.is_parse() {
        LinkFailure::Handshake(format!("the answer is no proper HTTP: {error}"))
    } else {
        LinkFailure::Io(SocketError::UnexpectedEof)
    }
}

/// The engine's name for a failed name lookup.
///
/// The standard library keeps the resolver's code to itself, so its text decides.
#[must_use]
pub(crate) fn lookup_error(error: &io::Error) -> SocketError {
    /// glibc (two codes), musl, the BSDs and macOS, Windows.
    const NO_SUCH_NAME: [&str; 5] = [
        "Name or service not known",
        "No address associated",
        "Name does not resolve",
        "nodename nor servname",
        "No such host is known",
    ];
    let text = error.to_string();
    if NO_SUCH_NAME.iter().any(|known| text.contains(known)) {
        SocketError::NameNotFound
    } else {
        SocketError::LookupFailed
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use linksocks_sansio::error::SocketError;

    use super::{lookup_error, socket_error};

    #[test]
    fn every_cause_that_people_can_act_on_keeps_its_name() {
        for (kind, error) in [
            (io::ErrorKind::ConnectionRefused, SocketError::Refused),
            (io::ErrorKind::ConnectionReset, SocketError::Reset),
            (io::ErrorKind::AddrInUse, SocketError::AddressInUse),
            (io::ErrorKind::InvalidData, SocketError::Other),
        ] {
            assert_eq!(socket_error(&kind.into()), error);
        }
        #[cfg(unix)]
        assert_eq!(socket_error(&io::Error::from_raw_os_error(24)), SocketError::Exhausted);
    }

    #[test]
    fn an_unknown_name_is_told_from_a_failing_resolver() {
        let error = |text| lookup_error(&io::Error::other(text));
        assert_eq!(error("Name or service not known"), SocketError::NameNotFound);
        assert_eq!(error("Temporary failure in name resolution"), SocketError::LookupFailed);
    }
}
