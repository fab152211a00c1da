//! Takes a message apart from front to back.

use bytes::{Buf, Bytes};

use super::decode::DecodeError;
use crate::ids::ChannelId;
use crate::secret::Token;

/// What is left of a message. Each method takes one field off the front and fails with
/// [`DecodeError::TooShort`] if it isn't all there, before anything is allocated.
pub(super) struct Reader {
    rest: Bytes,
    message: &'static str,
    channel: Option<ChannelId>,
}

impl Reader {
    /// `message` is the name for errors.
    pub(super) fn new(message: &'static str, rest: Bytes) -> Self {
        Self { rest, message, channel: None }
    }

    /// Gives what follows another name.
    pub(super) fn rename(self, message: &'static str) -> Self {
        Self { message, ..self }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn too_short(&self, field: &'static str) -> DecodeError {
        DecodeError::TooShort { message: self.message, field }
    }

    pub(super) fn bad_json(&self) -> DecodeError {
        DecodeError::Json { message: self.message }
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.rest.try_get_u8().map_err(|_| self.too_short(field))
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.rest.try_get_u16().map_err(|_| self.too_short(field))
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.rest.try_get_u32().map_err(|_| self.too_short(field))
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.rest.try_get_u64().map_err(|_| self.too_short(field))
    }

    /// Any byte but 0 is true.
    pub(super) fn flag(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.u8(field)? != 0)
    }

    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        self.rest.try_copy_to_slice(&mut array).map_err(|_| self.too_short(field))?;
        Ok(array)
    }

    /// The id that the message is about. Later errors carry it.
    pub(super) fn channel(&mut self, field: &'static str) -> Result<ChannelId, DecodeError> {
        let channel = ChannelId(self.array(field)?);
        self.channel = Some(channel);
        Ok(channel)
    }

    /// A slice of the message; no copy.
    pub(super) fn bytes(&mut self, len: usize, field: &'static str) -> Result<Bytes, DecodeError> {
        if len > self.rest.len() {
            return Err(self.too_short(field));
        }
        Ok(self.rest.split_to(len))
    }

    fn str8(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let len = self.u8(field)?;
        self.bytes(len.into(), field)
    }

    pub(super) fn bytes16(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let len = self.u16(field)?;
        self.bytes(len.into(), field)
    }

    pub(super) fn bytes32(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        let len = self.u32(field)?;
        self.bytes(usize::try_from(len).map_err(|_| self.too_short(field))?, field)
    }

    /// A str8 that must be UTF-8.
    pub(super) fn text(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let text = self.str8(field)?;
        match str::from_utf8(&text) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(DecodeError::Utf8 { message: self.message, field, channel: self.channel }),
        }
    }

    pub(super) fn token(&mut self, field: &'static str) -> Result<Token, DecodeError> {
        Ok(Token::new(self.text(field)?).expect("a str8 is no longer than a token may be"))
    }

    /// A token that may be missing; an empty one says the same.
    pub(super) fn optional_token(&mut self, field: &'static str) -> Result<Option<Token>, DecodeError> {
        if self.is_empty() {
            return Ok(None);
        }
        let token = self.token(field)?;
        Ok(if token.expose().is_empty() { None } else { Some(token) })
    }

    /// A text for people, which may be missing. What is not UTF-8 in it is replaced.
    pub(super) fn optional_error(&mut self) -> Result<Option<String>, DecodeError> {
        if self.is_empty() {
            return Ok(None);
        }
        let text = self.str8("error")?;
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
    }
}
