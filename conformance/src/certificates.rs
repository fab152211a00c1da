//! A certificate authority of a test's own.
//!
//! Nothing here fails but for want of random numbers: then it panics.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// An authority that nobody trusts unless told to.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, in PEM form.
    pub pem: String,
}

/// A certificate and its key, in PEM form.
#[derive(Debug)]
#[allow(missing_docs)] // The fields are what their names say.
pub struct Identity {
    pub chain: String,
    pub key: String,
}

impl Authority {
    /// One with a name of its own.
    #[must_use]
    #[allow(clippy::new_without_default)] // No two are equal.
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        Self::named(&format!("authority {}", COUNT.fetch_add(1, Relaxed)))
    }

    /// One that may have the name of another.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = new_key();
        let pem = params.self_signed(&key).expect("an authority can sign itself").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for a DNS name or an IP address, valid now.
    #[must_use]
    pub fn issue(&self, name: &str) -> Identity {
        self.issue_with(name, |_| {})
    }

    /// One that was valid long ago.
    #[must_use]
    pub fn issue_expired(&self, name: &str) -> Identity {
        self.issue_with(name, |params| params.not_after = date_time_ymd(2001, 1, 1))
    }

    /// One that will be valid in the far future.
    #[must_use]
    pub fn issue_early(&self, name: &str) -> Identity {
        self.issue_with(name, |params| params.not_before = date_time_ymd(4000, 1, 1))
    }

    fn issue_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name or an address");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let key = new_key();
        let chain = params.signed_by(&key, &self.issuer).expect("an authority can sign").pem();
        Identity { chain, key: key.serialize_pem() }
    }
}

/// What `openssl req -x509` makes: an authority that shows its own certificate.
#[must_use]
pub fn self_signed(name: &str) -> Identity {
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name or an address");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = new_key();
    let chain = params.self_signed(&key).expect("an authority can sign itself").pem();
    Identity { chain, key: key.serialize_pem() }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("the system has random numbers")
}
