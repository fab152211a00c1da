//! Certificates and keys as PEM text (RFC 7468).

use std::fs;
use std::path::Path;

use futures_rustls::pki_types::pem::{self, PemObject};
use futures_rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// All certificates of a text, in order; at least one.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let certificates = certificates.map_err(|error| TlsError::Pem(error.to_string()))?;
    if certificates.is_empty() { Err(TlsError::NoCertificate) } else { Ok(certificates) }
}

/// The first private key of a text.
pub(super) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| {
        if matches!(error, pem::Error::NoItemsFound) {
            TlsError::NoKey
        } else {
            TlsError::Pem(error.to_string())
        }
    })
}

/// Lets `parse` read a file; errors name it.
pub(super) fn from_file<T>(
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, TlsError>,
) -> Result<T, TlsError> {
    let parsed = fs::read(path).map_err(TlsError::Io).and_then(|text| parse(&text));
    parsed.map_err(|error| TlsError::File { path: path.to_owned(), error: Box::new(error) })
}
