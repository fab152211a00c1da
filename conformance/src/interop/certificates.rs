//! A certificate authority for one tunnel.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::Program;
use crate::certificates::Authority;

/// Files that go away with the tunnel: an authority's certificate, a certificate for 127.0.0.1 and its key.
#[derive(Debug)]
pub(super) struct Certificates(TempDir);

impl Certificates {
    pub(super) fn new() -> io::Result<Self> {
        let files = Self(tempfile::tempdir()?);
        let authority = Authority::new();
        let server = authority.issue("127.0.0.1");
        fs::write(files.path("ca.pem"), authority.pem)?;
        fs::write(files.path("server.pem"), server.chain)?;
        fs::write(files.path("key.pem"), server.key)?;
        Ok(files)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Lets a client trust the authority.
    pub(super) fn trust(&self, client: Program, command: &mut Command) {
        match client {
            Program::Ours(_) => command.arg("--ca").arg(self.path("ca.pem")),
            // It has no flag, but Go and Python let this variable replace the authorities of the system.
            Program::Real(_) | Program::Pywssocks => command.env("SSL_CERT_FILE", self.path("ca.pem")),
        };
    }

    /// Lets our server show the certificate.
    pub(super) fn show(&self, command: &mut Command) {
        command.arg("--tls-cert").arg(self.path("server.pem")).arg("--tls-key").arg(self.path("key.pem"));
    }
}
