//! Datagrams between an application and the SOCKS side (RFC 1928 section 7).

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::address::{Missing, SocksAddr, SocksAddrError, TargetAddr, TargetError, take_u8};

/// A datagram with its header taken off. Embedders of [`Command::Associate`](crate::io::Command::Associate)
/// exchange such datagrams with the engine; for SOCKS applications the engine does.
///
/// ```
/// use linksocks_sansio::socks5::Datagram;
///
/// let query = Datagram { address: "192.0.2.53:53".parse()?, payload: "query".into() };
/// let datagram = query.encode()?;
/// assert_eq!(datagram, b"\0\0\0\x01\xc0\x00\x02\x35\x00\x35query"[..]);
/// assert_eq!(Datagram::decode(&datagram)?, query);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// From an application: where it shall go. To an application: where it came from.
    pub address: TargetAddr,
    /// The bare payload; may be empty.
    pub payload: Bytes,
}

impl Datagram {
    /// Takes the header off: `RSV RSV FRAG ATYP ADDR PORT DATA`. The payload is a slice of `datagram`.
    ///
    /// # Errors
    /// [`DatagramError`]; such a datagram is to be dropped.
    pub fn decode(datagram: &Bytes) -> Result<Self, DatagramError> {
        let mut rest = &datagram[..];
        let _reserved = (take_u8(&mut rest)?, take_u8(&mut rest)?);
        // Reassembly is optional, and who does not do it must drop fragments.
        let fragment = take_u8(&mut rest)?;
        if fragment != 0 {
            return Err(DatagramError::Fragment(fragment));
        }
        let address = TargetAddr::try_from(SocksAddr::decode(&mut rest)?)?;
        Ok(Self { address, payload: datagram.slice(datagram.len() - rest.len()..) })
    }

    /// Header and payload in one piece.
    ///
    /// # Errors
    /// [`TargetError`] if the address can't travel.
    pub fn encode(&self) -> Result<Bytes, TargetError> {
        /// Reserved bytes, FRAG, ATYP, length, the longest name, port.
        const MAX_HEADER: usize = 2 + 1 + 1 + 1 + 255 + 2;
        let mut out = BytesMut::with_capacity(MAX_HEADER + self.payload.len());
        out.put_slice(&[0, 0, 0]);
        self.address.encode(&mut out)?;
        out.put_slice(&self.payload);
        Ok(out.freeze())
    }
}

/// Why a datagram of an application is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DatagramError {
    /// The header is cut short.
    #[error("the header of the datagram is cut short")]
    Truncated,
    /// It is a piece of a larger one.
    #[error("fragment {0} of a datagram: fragments are not supported")]
    Fragment(u8),
    /// An ATYP other than 1, 3 and 4.
    #[error("unknown address type {0}")]
    UnknownType(u8),
    /// The address is unusable.
    #[error("invalid target: {0}")]
    Target(#[from] TargetError),
}

impl From<Missing> for DatagramError {
    fn from(_: Missing) -> Self {
        Self::Truncated
    }
}

impl From<SocksAddrError> for DatagramError {
    fn from(error: SocksAddrError) -> Self {
        match error {
            SocksAddrError::Truncated(_) => Self::Truncated,
            SocksAddrError::UnknownType(kind) => Self::UnknownType(kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quickcheck::quickcheck;

    use super::{Datagram, DatagramError};
    use crate::socks5::TargetError;

    fn decode(datagram: &'static [u8]) -> Result<Datagram, DatagramError> {
        Datagram::decode(&Bytes::from_static(datagram))
    }

    #[test]
    fn headers_of_all_address_types_are_taken_off_and_put_on() {
        for (datagram, address, payload) in [
            (&b"\0\0\0\x01\x7f\0\0\x01\0\x35payload"[..], "127.0.0.1:53", &b"payload"[..]),
            (b"\0\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\0", "[::1]:256", b""),
            (b"\0\0\0\x03\x09localhost\0\x07\0", "localhost:7", b"\0"),
        ] {
            let decoded = decode(datagram).unwrap();
            assert_eq!(decoded.address, address.parse().unwrap());
            assert_eq!(decoded.payload, payload);
            assert_eq!(decoded.encode().unwrap(), datagram);
        }
    }

    #[test]
    fn what_can_not_be_relayed_is_an_error() {
        assert_eq!(decode(b""), Err(DatagramError::Truncated));
        assert_eq!(decode(b"\0\0\0\x01ab"), Err(DatagramError::Truncated), "crashes real programs");
        assert_eq!(decode(b"\0\0\x01\x01\x7f\0\0\x01\0\x35x"), Err(DatagramError::Fragment(1)));
        assert_eq!(decode(b"\0\0\0\x02\x7f\0\0\x01\0\x35x"), Err(DatagramError::UnknownType(2)));
        let zero_port = Err(DatagramError::Target(TargetError::ZeroPort));
        assert_eq!(decode(b"\0\0\0\x01\x7f\0\0\x01\0\0x"), zero_port);
        let empty = Err(DatagramError::Target(TargetError::EmptyHost));
        assert_eq!(decode(b"\0\0\0\x03\0\0\x35x"), empty);
    }

    quickcheck! {
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) -> bool {
            let header = [&[0, 0, 0][..], &bytes].concat();
            [bytes, header].into_iter().all(|bytes| match Datagram::decode(&bytes.into()) {
                Ok(datagram) => Datagram::decode(&datagram.encode().unwrap()) == Ok(datagram),
                Err(_) => true,
            })
        }
    }
}
