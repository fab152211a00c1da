//! The connecting side.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use futures_io::{AsyncRead, AsyncWrite};
use futures_rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use futures_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use futures_rustls::rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use futures_rustls::rustls::{
    self, AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, InvalidMessage,
    SignatureScheme,
};
use futures_rustls::{TlsConnector, TlsStream};
use futures_util::io::BufReader;
use linksocks_sansio::error::{LinkFailure, TlsFailure};
use rustls_platform_verifier::Verifier;

use super::{ALPN, READ_BUFFER, TlsError, pem, provider};
use crate::error::socket_error;
use crate::transport::Transport;

/// Whom a client trusts: by default every certificate authority that the system trusts.
///
/// Those are read once, by the first link that needs them. Cheap to clone.
#[derive(Clone, Default)]
pub struct ClientTls {
    authorities: Vec<CertificateDer<'static>>,
    insecure: bool,
    config: Arc<OnceLock<Result<Arc<ClientConfig>, rustls::Error>>>,
}

impl ClientTls {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificate authorities of a PEM file as well.
    ///
    /// # Errors
    /// [`TlsError::File`].
    pub fn ca_file(self, path: &Path) -> Result<Self, TlsError> {
        let authorities = pem::from_file(path, authorities)?;
        Ok(self.trust(authorities))
    }

    /// Trusts the certificate authorities of a PEM text as well.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn ca_pem(self, text: &[u8]) -> Result<Self, TlsError> {
        Ok(self.trust(authorities(text)?))
    }

    fn trust(mut self, authorities: Vec<CertificateDer<'static>>) -> Self {
        self.authorities.extend(authorities);
        self.config = Arc::default();
        self
    }

    /// Trusts everybody: whoever is between client and server can read and change everything, and
    /// gets to know the token.
    #[must_use]
    pub fn dangerous_insecure(mut self) -> Self {
        self.insecure = true;
        self.config = Arc::default();
        self
    }

    /// Reads what has not been read yet.
    ///
    /// # Errors
    /// [`TlsError::Platform`].
    pub(crate) fn prepare(&self) -> Result<(), TlsError> {
        self.config().map(drop).map_err(TlsError::Platform)
    }

    fn config(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        self.config.get_or_init(|| self.build()).clone()
    }

    fn build(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let verifier: Arc<dyn ServerCertVerifier> = if self.insecure {
            Arc::new(Anybody(algorithms))
        } else {
            Arc::new(Verifier::new_with_extra_roots(self.authorities.clone(), Arc::clone(&provider))?)
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Arc::new(config))
    }

    /// Does the handshake with the server called `name`.
    pub(crate) async fn connect<S>(&self, stream: S, name: &str) -> Result<Transport<S>, LinkFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let server_name =
            ServerName::try_from(name.to_owned()).map_err(|_| TlsFailure::InvalidName(name.to_owned()))?;
        let config = self.config().map_err(|error| TlsFailure::Setup(error.to_string()))?;
        let stream = BufReader::with_capacity(READ_BUFFER, stream);
        let connected = TlsConnector::from(config).connect(server_name, stream).await;
        let stream = connected.map_err(|error| failure(&error, name))?;
        Ok(Transport::Tls(Box::new(TlsStream::Client(stream))))
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("authorities", &self.authorities.len())
            .field("insecure", &self.insecure)
            .finish_non_exhaustive()
    }
}

/// The certificates of a text, each of which must be fit to be trusted.
fn authorities(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = pem::certificates(text)?;
    let mut store = rustls::RootCertStore::empty();
    for certificate in &certificates {
        store.add(certificate.clone()).map_err(TlsError::Unusable)?;
    }
    Ok(certificates)
}

fn failure(error: &io::Error, name: &str) -> LinkFailure {
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(error) => LinkFailure::Tls(tls_failure(error, name)),
        None => LinkFailure::Io(socket_error(error)),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only the text of the others matters")]
fn tls_failure(error: &rustls::Error, name: &str) -> TlsFailure {
    match error {
        rustls::Error::InvalidCertificate(error) => certificate_failure(error, name),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => TlsFailure::NotTls,
        rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol => {
            TlsFailure::Incompatible(error.to_string())
        }
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::UnrecognisedName => TlsFailure::UnknownName(name.to_owned()),
            AlertDescription::HandshakeFailure
            | AlertDescription::InsufficientSecurity
            | AlertDescription::NoApplicationProtocol
            | AlertDescription::ProtocolVersion => TlsFailure::Incompatible(error.to_string()),
            alert => TlsFailure::Alert(format!("{alert:?}")),
        },
        error => TlsFailure::Protocol(error.to_string()),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only the text of the others matters")]
fn certificate_failure(error: &CertificateError, name: &str) -> TlsFailure {
    match error {
        CertificateError::UnknownIssuer => TlsFailure::UnknownIssuer,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsFailure::WrongName(name.to_owned())
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFailure::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsFailure::NotYetValid
        }
        CertificateError::Revoked => TlsFailure::Revoked,
        CertificateError::BadSignature => {
            let text = "its signature is wrong; an authority of the same name may have signed it";
            TlsFailure::Certificate(text.to_owned())
        }
        // What `openssl req -x509` makes. The type of this error is that of a private dependency.
        CertificateError::Other(error) if format!("{error:?}").contains("CaUsedAsEndEntity") => {
            let text = "it is that of an authority (CA:TRUE), which no server may show as its own";
            TlsFailure::Certificate(text.to_owned())
        }
        error => TlsFailure::Certificate(error.to_string()),
    }
}

/// Takes every certificate. Signatures are still checked: a server must have the key of whatever
/// certificate it shows.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
