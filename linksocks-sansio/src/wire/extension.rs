//! The messages between our own peers: Hello, Window, Finish and Ack.
//!
//! They travel only on a link whose upgrade agreed on extensions, so no other program sees them.

use bytes::{BufMut, BytesMut};

use super::DecodeError;
use super::message::{Ack, Finish, Hello, SessionHello, Window};
use super::reader::Reader;

/// Kinds of entries in a Hello.
mod entry {
    pub(super) const WINDOW: u8 = 1;
    pub(super) const FINISH: u8 = 2;
    pub(super) const SESSION: u8 = 3;
}

impl Hello {
    /// Entries of unknown kinds and bytes behind a known value are skipped, so that later versions
    /// can add some. Of two entries of a kind the later one counts.
    pub(super) fn read(mut body: Reader) -> Result<Self, DecodeError> {
        let mut hello = Self::default();
        for _ in 0..body.u8("count")? {
            let kind = body.u8("kind")?;
            let mut value = Reader::new("Hello", body.bytes16("value")?);
            match kind {
                entry::WINDOW => hello.window = Some(value.u32("window")?),
                entry::FINISH => hello.finish = true,
                entry::SESSION => hello.session = Some(SessionHello::read(&mut value)?),
                _ => {}
            }
        }
        Ok(hello)
    }

    pub(super) fn put(&self, out: &mut BytesMut) {
        let entries = [self.window.is_some(), self.finish, self.session.is_some()];
        out.put_u8(entries.into_iter().map(u8::from).sum());
        if let Some(window) = self.window {
            put_entry(out, entry::WINDOW, |value| value.put_u32(window));
        }
        if self.finish {
            put_entry(out, entry::FINISH, |_| {});
        }
        if let Some(session) = &self.session {
            put_entry(out, entry::SESSION, |value| session.put(value));
        }
    }
}

/// Writes the value behind its kind and length.
fn put_entry(out: &mut BytesMut, kind: u8, value: impl FnOnce(&mut BytesMut)) {
    out.put_u8(kind);
    out.put_u16(0);
    let start = out.len();
    value(out);
    let len = u16::try_from(out.len() - start).expect("a value has at most 41 bytes");
    out[start - 2..start].copy_from_slice(&len.to_be_bytes());
}

impl SessionHello {
    fn read(value: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            id: value.array("session id")?,
            secret: value.array("session secret")?,
            received: value.u64("session received")?,
            flags: value.u8("session flags")?,
        })
    }

    fn put(&self, out: &mut BytesMut) {
        out.put_slice(&self.id);
        out.put_slice(&self.secret);
        out.put_u64(self.received);
        out.put_u8(self.flags);
    }
}

impl Window {
    pub(super) fn read(mut body: Reader) -> Result<Self, DecodeError> {
        Ok(Self { channel: body.channel("channel")?, bytes: body.u32("bytes")? })
    }

    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_slice(&self.channel.0);
        out.put_u32(self.bytes);
    }
}

impl Finish {
    pub(super) fn read(mut body: Reader) -> Result<Self, DecodeError> {
        Ok(Self { channel: body.channel("channel")? })
    }

    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_slice(&self.channel.0);
    }
}

impl Ack {
    pub(super) fn read(mut body: Reader) -> Result<Self, DecodeError> {
        Ok(Self { received: body.u64("received")? })
    }

    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_u64(self.received);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::ids::ChannelId;
    use crate::wire::{Ack, DecodeError, Finish, Hello, Message, SessionHello, Window, decode};

    fn hello(bytes: &'static [u8]) -> Result<Message, DecodeError> {
        decode(Bytes::from_static(bytes)).map(|frame| frame.message)
    }

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let session = SessionHello { id: [1; 16], secret: [2; 16], received: 3, flags: 4 };
        let hello = Hello { window: Some(0x0004_0000), finish: true, session: Some(session) };
        let mut expected = vec![0x01, 0xE0, 3];
        expected.extend([1, 0, 4, 0, 4, 0, 0]);
        expected.extend([2, 0, 0]);
        expected.extend([3, 0, 41]);
        expected.extend([1; 16]);
        expected.extend([2; 16]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 3, 4]);
        assert_eq!(hello.encode(), expected);

        let channel = ChannelId([9; 16]);
        let window = Window { channel, bytes: 0x0102_0304 }.encode();
        assert_eq!(window, [&[0x01, 0xE1], &[9; 16][..], &[1, 2, 3, 4]].concat());
        assert_eq!(Finish { channel }.encode(), [&[0x01, 0xE2], &[9; 16][..]].concat());
        assert_eq!(Ack { received: 5 }.encode(), [1, 0xE3, 0, 0, 0, 0, 0, 0, 0, 5][..]);
    }

    #[test]
    fn a_hello_of_a_later_version_is_understood() {
        // An unknown kind, a window with something behind it, bytes behind the last entry.
        let message = hello(b"\x01\xE0\x02\x63\x00\x02xx\x01\x00\x05\x00\x00\x10\x00y\xFF");
        let expected = Hello { window: Some(0x1000), ..Hello::default() };
        assert_eq!(message, Ok(Message::Hello(expected)));
    }

    #[test]
    fn a_hello_with_wrong_lengths_is_fatal() {
        for (bytes, field) in [
            (&b"\x01\xE0"[..], "count"),
            (b"\x01\xE0\x01", "kind"),
            (b"\x01\xE0\x01\x01\x00", "value"),
            (b"\x01\xE0\x01\x01\x00\x04\x00\x00\x10", "value"),
            (b"\x01\xE0\x01\x01\x00\x03\x00\x00\x10\x00", "window"),
            (b"\x01\xE0\xFF\x02\x00\x00", "kind"),
            (b"\x01\xE0\x01\x63\xFF\xFF", "value"),
        ] {
            let error = hello(bytes).unwrap_err();
            assert_eq!(error, DecodeError::TooShort { message: "Hello", field });
            assert!(!error.is_skippable());
        }
    }
}
