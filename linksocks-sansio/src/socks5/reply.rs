//! The answer to a request (RFC 1928 section 6).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::VERSION;
use super::address::encode_ip;

/// The answer to a request (RFC 1928 section 6).
///
/// Its text is that of the RFC.
///
/// ```
/// use linksocks_sansio::socks5::Reply;
///
/// let reply = Reply::Refused;
/// assert_eq!(reply.to_string(), "connection refused");
/// assert_eq!(reply.encode(Reply::NO_ADDRESS), b"\x05\x05\0\x01\0\0\0\0\0\0"[..]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[repr(u8)]
pub enum Reply {
    /// The request is granted.
    #[error("succeeded")]
    Succeeded = 0,
    /// The request is malformed, or anything that no other code fits.
    #[error("general SOCKS server failure")]
    GeneralFailure = 1,
    /// A rule forbids the target.
    #[error("connection not allowed by ruleset")]
    NotAllowed = 2,
    /// There is no link or no provider.
    #[error("network unreachable")]
    NetworkUnreachable = 3,
    /// The connection to the target failed.
    #[error("host unreachable")]
    HostUnreachable = 4,
    /// The target refused the connection.
    #[error("connection refused")]
    Refused = 5,
    /// The TTL expired.
    #[error("TTL expired")]
    TtlExpired = 6,
    /// The command is not supported.
    #[error("command not supported")]
    CommandNotSupported = 7,
    /// The address type is not supported.
    #[error("address type not supported")]
    AddressTypeNotSupported = 8,
}

impl Reply {
    /// The bound address of failures, and of connections, whose real one only the dial side knows.
    pub const NO_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

    /// The reply with this code, if it has one of the RFC's.
    pub(super) fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Succeeded,
            1 => Self::GeneralFailure,
            2 => Self::NotAllowed,
            3 => Self::NetworkUnreachable,
            4 => Self::HostUnreachable,
            5 => Self::Refused,
            6 => Self::TtlExpired,
            7 => Self::CommandNotSupported,
            8 => Self::AddressTypeNotSupported,
            _ => return None,
        })
    }

    /// The bytes of this reply with the bound address `bound`: of UDP ASSOCIATE, where datagrams go to.
    #[must_use]
    pub fn encode(self, bound: SocketAddr) -> Bytes {
        let mut out = BytesMut::new();
        self.encode_into(bound, &mut out);
        out.freeze()
    }

    /// Appends what [`Self::encode`] returns.
    pub(super) fn encode_into(self, bound: SocketAddr, out: &mut BytesMut) {
        const RESERVED: u8 = 0;
        out.put_slice(&[VERSION, self as u8, RESERVED]);
        encode_ip(bound, out);
    }
}

#[cfg(test)]
mod tests {
    use super::Reply;

    #[test]
    fn replies_carry_the_bound_address() {
        let v4 = Reply::Succeeded.encode("127.0.0.1:1080".parse().unwrap());
        assert_eq!(v4, b"\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38"[..]);
        let v6 = Reply::Refused.encode("[::1]:1080".parse().unwrap());
        assert_eq!(v6, b"\x05\x05\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x04\x38"[..]);
        let codes = [
            Reply::Succeeded,
            Reply::GeneralFailure,
            Reply::NotAllowed,
            Reply::NetworkUnreachable,
            Reply::HostUnreachable,
            Reply::Refused,
            Reply::TtlExpired,
            Reply::CommandNotSupported,
            Reply::AddressTypeNotSupported,
        ];
        for (code, reply) in (0..).zip(codes) {
            assert_eq!(reply.encode(Reply::NO_ADDRESS), [5, code, 0, 1, 0, 0, 0, 0, 0, 0][..]);
            assert_eq!(Reply::from_code(code), Some(reply));
        }
        assert_eq!(Reply::from_code(9), None);
    }
}
