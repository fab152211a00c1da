//! The Basic scheme of authentication (RFC 7617).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::secret::Credentials;

const SCHEME: &str = "Basic";

/// The value of an `Authorization` or `Proxy-Authorization` header.
pub(super) fn encode(credentials: &Credentials) -> String {
    let pair = format!("{}:{}", credentials.username(), credentials.password());
    format!("{SCHEME} {}", STANDARD.encode(pair))
}

/// Whether the value of such a header is that of `credentials`. The name of the scheme may be in any
/// case, the user name ends at the first colon.
pub(super) fn matches(value: &[u8], credentials: &Credentials) -> bool {
    let Some((scheme, encoded)) = value.split_at_checked(SCHEME.len()) else { return false };
    if !scheme.eq_ignore_ascii_case(SCHEME.as_bytes()) || encoded.first() != Some(&b' ') {
        return false;
    }
    let Ok(pair) = STANDARD.decode(encoded.trim_ascii()) else { return false };
    let Some(colon) = pair.iter().position(|byte| *byte == b':') else { return false };
    credentials.matches(&pair[..colon], &pair[colon + 1..])
}

#[cfg(test)]
mod tests {
    use super::{encode, matches};
    use crate::secret::Credentials;

    #[test]
    fn the_example_of_the_rfc() {
        let credentials = Credentials::new("Aladdin", "open sesame").unwrap();
        let value = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        assert_eq!(encode(&credentials), value);
        for same in [value, "basic  QWxhZGRpbjpvcGVuIHNlc2FtZQ== "] {
            assert!(matches(same.as_bytes(), &credentials), "{same}");
        }
        for other in [
            "",
            "Basic",
            "Basic ",
            "BasicQWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            "Basic !",
            "Basic QWxhZGRpbg==",
            "Bearer x",
        ] {
            assert!(!matches(other.as_bytes(), &credentials), "{other}");
        }
        let colon = Credentials::new("user", "a:b").unwrap();
        assert!(matches(encode(&colon).as_bytes(), &colon));
    }
}
