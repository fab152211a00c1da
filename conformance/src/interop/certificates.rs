//! A certificate authority for one tunnel.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::Program;

/// Files that go away with the tunnel: an authority's certificate, a certificate for 127.0.0.1 and its key.
#[derive(Debug)]
pub(super) struct Certificates(TempDir);

impl Certificates {
    pub(super) fn new() -> io::Result<Self> {
        let files = Self(tempfile::tempdir()?);
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "interop authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = authority.self_signed(&authority_key).map_err(io::Error::other)?;
        fs::write(files.path("ca.pem"), certificate.pem())?;

        let server = CertificateParams::new(["127.0.0.1".to_owned()]).map_err(io::Error::other)?;
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let issuer = Issuer::new(authority, authority_key);
        let certificate = server.signed_by(&key, &issuer).map_err(io::Error::other)?;
        fs::write(files.path("server.pem"), certificate.pem())?;
        fs::write(files.path("key.pem"), key.serialize_pem())?;
        Ok(files)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Lets a client trust the authority.
    pub(super) fn trust(&self, client: Program, command: &mut Command) {
        match client {
            Program::Ours => command.arg("--ca").arg(self.path("ca.pem")),
            // It has no flag, but Go and Python let this variable replace the authorities of the system.
            Program::Real(_) | Program::Pywssocks => command.env("SSL_CERT_FILE", self.path("ca.pem")),
        };
    }

    /// Lets our server show the certificate.
    pub(super) fn show(&self, command: &mut Command) {
        command.arg("--tls-cert").arg(self.path("server.pem")).arg("--tls-key").arg(self.path("key.pem"));
    }
}
