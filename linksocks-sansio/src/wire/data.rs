//! The Data message: its 24-byte header, in place where it can be, and the tail of datagrams.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::encode::{self, EncodeError};
use super::message::{Compression, Data, Endpoint, Endpoints};
use super::reader::Reader;
use super::{DATA_HEADER_LEN, DecodeError, HEADER_LEN, MAX_STR8, VERSION, kind};
use crate::ids::ChannelId;

/// Protocol number of a stream.
pub(super) const TCP: u8 = 1;
/// Protocol number of an association.
pub(super) const UDP: u8 = 2;

const GZIP: u8 = 1;

/// Where the channel id is in a message.
const CHANNEL: Range<usize> = 3..19;

const SEQUENCE_LEN: usize = 8;

/// The longest tail: two address blocks and a sequence number.
const MAX_TAIL: usize = 2 * (1 + MAX_STR8 + 2) + SEQUENCE_LEN;

/// Makes a TCP Data message of bytes that were read from a socket. The header is written into the
/// first [`DATA_HEADER_LEN`] bytes of `memory`, which must have been left free; the payload is
/// what follows. Nothing is copied.
///
/// ```
/// use linksocks_sansio::wire::{DATA_HEADER_LEN, Message, decode, seal_tcp};
/// use linksocks_sansio::{ChannelId, ReadBuf};
///
/// let mut memory = ReadBuf::headroom(4096);
/// memory.extend_from_slice(b"GET / HTTP/1.0");
/// let address = memory.as_ptr();
/// let message = seal_tcp(memory, ChannelId([7; 16]));
/// assert_eq!(message.len(), DATA_HEADER_LEN + 14);
/// assert_eq!(message.as_ptr(), address);
///
/// let Message::Data(data) = decode(message)?.message else { panic!("it is Data") };
/// assert_eq!((data.channel, &data.payload[..]), (ChannelId([7; 16]), &b"GET / HTTP/1.0"[..]));
/// # Ok::<(), linksocks_sansio::wire::DecodeError>(())
/// ```
///
/// # Panics
/// If `memory` is shorter than the header or has 4 GiB of payload: bugs of the caller.
#[must_use]
pub fn seal_tcp(memory: BytesMut, channel: ChannelId) -> Bytes {
    seal(memory, channel, Compression::None)
}

/// As [`seal_tcp`], for a payload that is gzip.
///
/// # Panics
/// As [`seal_tcp`].
#[must_use]
pub fn seal_tcp_gzip(memory: BytesMut, channel: ChannelId) -> Bytes {
    seal(memory, channel, Compression::Gzip)
}

/// A Data message as we send it on for `channel`. Other programs write other minor versions, which
/// not every peer reads.
pub(crate) fn readdress(message: &Bytes, channel: ChannelId) -> Bytes {
    let is_ours = message.first() == Some(&VERSION.0);
    if is_ours && message.get(CHANNEL) == Some(&channel.0[..]) {
        return message.clone();
    }
    let mut message = BytesMut::from(&message[..]);
    if message.len() >= CHANNEL.end {
        message[0] = VERSION.0;
        message[CHANNEL].copy_from_slice(&channel.0);
    }
    message.freeze()
}

fn seal(mut memory: BytesMut, channel: ChannelId, compression: Compression) -> Bytes {
    let payload = memory.len().checked_sub(DATA_HEADER_LEN).expect("the memory begins with its headroom");
    let len = u32::try_from(payload).expect("one read is far below 4 GiB");
    memory[..DATA_HEADER_LEN].copy_from_slice(&header(TCP, channel, compression, len));
    memory.freeze()
}

fn header(protocol: u8, channel: ChannelId, compression: Compression, len: u32) -> [u8; DATA_HEADER_LEN] {
    let mut header = [0; DATA_HEADER_LEN];
    header[0] = VERSION.0;
    header[1] = kind::DATA;
    header[2] = protocol;
    header[CHANNEL].copy_from_slice(&channel.0);
    header[19] = match compression {
        Compression::None => 0,
        Compression::Gzip => GZIP,
    };
    header[20..].copy_from_slice(&len.to_be_bytes());
    header
}

impl Data {
    /// Any protocol number but UDP's means stream bytes and, as in real programs, any compression
    /// number but gzip's means none: to drop the message would leave a hole in a stream.
    pub(super) fn read(mut body: Reader) -> Result<Self, DecodeError> {
        let protocol = body.u8("protocol")?;
        let channel = body.channel("channel")?;
        let compression = match body.u8("compression")? {
            GZIP => Compression::Gzip,
            _ => Compression::None,
        };
        let payload = body.bytes32("payload")?;
        let datagram = match protocol {
            UDP if body.is_empty() => return Err(DecodeError::NoEndpoint { channel }),
            UDP => Some(Endpoints::read(&mut body)?),
            _ => None,
        };
        // Fewer than 8 bytes are no sequence number but bytes behind the body.
        let sequence = body.u64("sequence").ok();
        Ok(Self { channel, compression, payload, datagram, sequence })
    }

    /// The length of the longest message with this payload.
    pub(super) fn max_len(&self) -> usize {
        let tail = if self.datagram.is_some() { MAX_TAIL } else { SEQUENCE_LEN };
        DATA_HEADER_LEN + self.payload.len() + tail
    }

    /// Writes the body: the header from the protocol number on, payload and tail.
    pub(super) fn put(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let len = encode::length32(&self.payload)?;
        let protocol = if self.datagram.is_some() { UDP } else { TCP };
        let header = header(protocol, self.channel, self.compression, len);
        out.put_slice(&header[HEADER_LEN..]);
        out.put_slice(&self.payload);
        match &self.datagram {
            // A sequence number here would be read as the second block.
            Some(Endpoints::One(endpoint)) => return endpoint.put(out),
            Some(Endpoints::Two { source, target }) => {
                source.put(out)?;
                target.put(out)?;
            }
            None => {}
        }
        if let Some(sequence) = self.sequence {
            out.put_u64(sequence);
        }
        Ok(())
    }
}

impl Endpoints {
    fn read(body: &mut Reader) -> Result<Self, DecodeError> {
        let first = Endpoint::read(body)?;
        if body.is_empty() {
            return Ok(Self::One(first));
        }
        Ok(Self::Two { source: first, target: Endpoint::read(body)? })
    }
}

impl Endpoint {
    fn read(body: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { address: body.text("address")?, port: body.u16("port")? })
    }

    fn put(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode::put_address(out, &self.address)?;
        out.put_u16(self.port);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{DATA_HEADER_LEN, seal_tcp};
    use crate::ids::ChannelId;
    use crate::wire::{Compression, Message, VERSION, decode};

    const CHANNEL: ChannelId = ChannelId([7; 16]);

    fn memory(payload: &[u8]) -> BytesMut {
        let mut memory = BytesMut::zeroed(DATA_HEADER_LEN);
        memory.extend_from_slice(payload);
        memory
    }

    #[test]
    fn sealing_writes_the_header_around_bytes_that_stay_where_they_are() {
        let memory = memory(b"stream");
        let place = memory.as_ptr();
        let sealed = seal_tcp(memory, CHANNEL);
        assert_eq!(sealed.as_ptr(), place);

        let frame = decode(sealed.clone()).unwrap();
        let Message::Data(data) = frame.message else { panic!("not a Data message: {frame:?}") };
        assert_eq!(frame.version, VERSION);
        assert_eq!(data.payload, b"stream"[..]);
        assert_eq!((data.channel, data.compression), (CHANNEL, Compression::None));
        assert_eq!((data.datagram.as_ref(), data.sequence), (None, None));
        assert_eq!(data.payload.as_ptr(), place.wrapping_add(DATA_HEADER_LEN), "decoding copies nothing");
        assert_eq!(Message::Data(data).encode().unwrap(), sealed);
    }

    #[test]
    fn a_message_without_payload_is_sealed_too() {
        assert_eq!(seal_tcp(memory(b""), CHANNEL).len(), DATA_HEADER_LEN);
    }

    #[test]
    #[should_panic(expected = "headroom")]
    fn memory_without_headroom_is_a_bug() {
        let _ = seal_tcp(BytesMut::zeroed(DATA_HEADER_LEN - 1), CHANNEL);
    }

    #[test]
    fn numbers_that_nobody_knows_mean_plain_stream_bytes() {
        let mut message = BytesMut::from(&seal_tcp(memory(b"stream"), CHANNEL)[..]);
        let plain = decode(message.clone().freeze()).unwrap();
        message[2] = 9;
        message[19] = 9;
        assert_eq!(decode(message.freeze()).unwrap(), plain);
    }

    #[test]
    fn only_eight_bytes_behind_a_stream_payload_are_a_sequence_number() {
        let sequence = |tail: &[u8]| {
            let mut message = BytesMut::from(&seal_tcp(memory(b"stream"), CHANNEL)[..]);
            message.extend_from_slice(tail);
            let decoded = decode(message.freeze()).unwrap().message;
            let Message::Data(data) = decoded else { panic!("became {decoded:?}") };
            assert_eq!(data.payload, b"stream"[..]);
            data.sequence
        };
        assert_eq!(sequence(&[0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(sequence(&[0, 0, 0, 0, 0, 0, 0, 7]), Some(7));
        assert_eq!(sequence(&[0, 0, 0, 0, 0, 0, 0, 7, 1]), Some(7));
    }
}
