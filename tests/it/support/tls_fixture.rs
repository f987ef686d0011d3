//! A certificate for `localhost` (and for no other name) and the authority that signed it, valid until 2120.

use std::sync::{Arc, LazyLock};

use postroom::mail::tls::Trust;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// The authority, to be given to a client as an extra one.
pub const CA_PEM: &str = include_str!("../../fixtures/tls/ca.pem");

/// Takes TLS connections with the fixture's certificate.
pub fn acceptor() -> TlsAcceptor {
    let certificate =
        CertificateDer::from_pem_slice(include_bytes!("../../fixtures/tls/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../../fixtures/tls/server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Believes the operating system's authorities only: to it, the fixture's certificate is a bad one.
pub fn plain_trust() -> Trust {
    // Reading the system's authorities takes longer than most tests.
    static TRUST: LazyLock<Trust> = LazyLock::new(|| Trust::new(None).unwrap());
    TRUST.clone()
}

/// Believes the fixture's authority too.
pub fn fixture_trust() -> Trust {
    static TRUST: LazyLock<Trust> = LazyLock::new(|| Trust::new(Some(CA_PEM)).unwrap());
    TRUST.clone()
}
