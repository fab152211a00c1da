//! Tokens and passwords: never shown, compared in constant time.

use std::fmt;
use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::ConfigError;

/// The text that a client without a token uses.
pub(crate) const ANONYMOUS: &str = "anonymous";

/// A LinkSocks secret of at most 255 bytes.
///
/// `Debug` shows nothing of it; `==` takes the same time for all tokens of a length; its memory is wiped
/// when it is dropped.
///
/// ```
/// use linksocks_sansio::Token;
///
/// let token = Token::new("secret")?;
/// assert_eq!(token.expose(), "secret"); // to be sent
/// assert_eq!(format!("{token:?}"), "Token(..)"); // to be logged
/// assert!(Token::new("x".repeat(256)).is_err());
/// assert!(Token::new("anonymous")?.is_anonymous()); // a client without a token
/// # Ok::<(), linksocks_sansio::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// The longest token that the wire can carry, in bytes.
    pub const MAX_LEN: usize = 255;

    /// Checks the length. Whether it is empty or reserved is judged where it is used.
    ///
    /// # Errors
    /// [`ConfigError::TokenTooLong`] over 255 bytes.
    pub fn new(text: impl Into<String>) -> Result<Self, ConfigError> {
        let text = Zeroizing::new(text.into());
        if text.len() > Self::MAX_LEN {
            return Err(ConfigError::TokenTooLong(text.len()));
        }
        Ok(Self(text))
    }

    /// The token of clients that have none.
    #[must_use]
    pub fn anonymous() -> Self {
        Self(ANONYMOUS.to_owned().into())
    }

    /// A token of random bytes, in hex.
    pub(crate) fn made(random: &[u8]) -> Self {
        Self(to_hex(random).into())
    }

    /// The secret itself. To be sent, never to be logged.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether this is the text that stands for "no token".
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        *self.0 == ANONYMOUS
    }

    /// The SHA-256 that stands in the URL in place of the token.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        TokenDigest(Zeroizing::new(Sha256::digest(self.0.as_bytes()).into()))
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Token {}

impl Hash for Token {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The SHA-256 of a token, which a client sends in its URL (parameter `token`). As good as the token for
/// logging in, so it is as secret.
///
/// ```
/// use linksocks_sansio::{Token, TokenDigest};
///
/// let digest = Token::anonymous().digest();
/// assert_eq!(digest.to_hex(), "2f183a4e64493af3f377f745eda502363cd3e7ef6e4d266d444758de0a85fcc8");
/// assert_eq!(TokenDigest::from_hex(&digest.to_hex()), Some(digest));
/// ```
#[derive(Clone)]
pub struct TokenDigest(Zeroizing<[u8; 32]>);

impl TokenDigest {
    /// The length of the text form.
    pub const HEX_LEN: usize = 64;

    /// Reads the text form: 64 lower-case hex digits. Upper case is not matched by real servers
    /// and not by this one.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let text: &[u8; Self::HEX_LEN] = text.as_bytes().try_into().ok()?;
        let mut digest = Zeroizing::new([0; 32]);
        for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Some(Self(digest))
    }

    /// A hash that only those can compute who know the key.
    pub(crate) fn keyed(&self, key: &[u8; 16]) -> [u8; 32] {
        Sha256::new().chain_update(key).chain_update(self.0.as_slice()).finalize().into()
    }

    /// The text form: 64 lower-case hex digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        to_hex(self.0.as_slice())
    }
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl Eq for TokenDigest {}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

/// Proves that a peer owns a session.
#[derive(Clone)]
pub(crate) struct SessionSecret(pub(crate) [u8; 16]);

impl Drop for SessionSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PartialEq for SessionSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SessionSecret {}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSecret(..)")
    }
}

/// User name and password: of the SOCKS side (RFC 1929; for HTTP RFC 7617), or for an upstream proxy.
/// `Debug` shows only the name.
///
/// ```
/// use linksocks_sansio::Credentials;
///
/// let credentials = Credentials::new("user", "password")?;
/// assert!(credentials.matches(b"user", b"password"));
/// assert!(!credentials.matches(b"user", b"passwort"));
/// assert!(!format!("{credentials:?}").contains("password"));
/// # Ok::<(), linksocks_sansio::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    username: String,
    password: Token,
}

impl Credentials {
    /// Checks the lengths: 1 to 255 bytes each.
    ///
    /// # Errors
    /// [`ConfigError::HalfCredentials`] if one is empty, [`ConfigError::CredentialsTooLong`].
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Result<Self, ConfigError> {
        let (username, password) = (username.into(), Zeroizing::new(password.into()));
        if username.is_empty() || password.is_empty() {
            return Err(ConfigError::HalfCredentials);
        }
        if username.len() > 255 || password.len() > 255 {
            return Err(ConfigError::CredentialsTooLong);
        }
        Ok(Self { username, password: Token(password) })
    }

    /// The name, to be sent.
    pub(crate) fn username(&self) -> &str {
        &self.username
    }

    /// The password, to be sent and never to be logged.
    pub(crate) fn password(&self) -> &str {
        self.password.expose()
    }

    /// Compares in constant time.
    #[must_use]
    pub fn matches(&self, username: &[u8], password: &[u8]) -> bool {
        let name = self.username.as_bytes().ct_eq(username);
        let word = self.password.0.as_bytes().ct_eq(password);
        (name & word).into()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{Credentials, Token, TokenDigest};

    #[test]
    fn the_digest_of_anonymous_is_the_documented_one() {
        let hex = "2f183a4e64493af3f377f745eda502363cd3e7ef6e4d266d444758de0a85fcc8";
        assert_eq!(Token::anonymous().digest().to_hex(), hex);
        assert_eq!(TokenDigest::from_hex(hex), Some(Token::anonymous().digest()));
        assert_eq!(TokenDigest::from_hex(&hex.to_uppercase()), None);
        assert_eq!(TokenDigest::from_hex(&hex[1..]), None);
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let token = Token::new("s3cret").unwrap();
        let credentials = Credentials::new("user", "s3cret").unwrap();
        let text = format!("{token:?} {:?} {credentials:?}", token.digest());
        assert!(!text.contains("s3cret") && !text.contains(&token.digest().to_hex()), "{text}");
    }

    #[test]
    fn credentials_need_both_parts() {
        assert!(Credentials::new("user", "").is_err());
        assert!(Credentials::new("", "word").is_err());
        let both = Credentials::new("user", "word").unwrap();
        assert!(both.matches(b"user", b"word"));
        assert!(!both.matches(b"user", b"wore"));
    }
}
