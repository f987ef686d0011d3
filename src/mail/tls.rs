//! Reaching a mail server: name, socket and TLS (RFC 8314), each with its own deadline and its own error.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::check::{CheckLog, CheckName};

/// How a connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// TLS from the first byte (RFC 8314 §3).
    Tls,
    /// TLS after a STARTTLS command; a server that does not offer it is refused.
    Starttls,
    /// No protection: only to a loopback address, or where [`Endpoint::allow_plaintext`] says so.
    None,
}

/// Where a mail server is and how it is reached.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How the connection is protected.
    pub security: Security,
    /// Lets mail and passwords cross a network unprotected; off unless the administrator asked for it.
    pub allow_plaintext: bool,
    /// The certificate authorities that are believed.
    pub trust: Trust,
}

/// The longest that each stage of reaching a server may take.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Looking up the host name.
    pub resolve: Duration,
    /// Opening the socket, over all addresses of the host.
    pub connect: Duration,
    /// The TLS handshake.
    pub handshake: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            resolve: Duration::from_secs(10),
            connect: Duration::from_secs(15),
            handshake: Duration::from_secs(15),
        }
    }
}

/// Why a server could not be reached; the text is for an administrator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// The host name has no address.
    #[error("the host name {host} could not be looked up: {reason}")]
    Resolve {
        /// The name that was asked for.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// No address of the host took the connection.
    #[error("no connection to {host} port {port}: {reason}")]
    Connect {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// What the operating system said about the last address.
        reason: String,
    },
    /// The TLS handshake failed, or the certificate is not good.
    #[error("no secure connection to {host}: {reason}")]
    Tls {
        /// The host.
        host: String,
        /// What is wrong with the certificate or the handshake.
        reason: String,
    },
    /// Plain text to another machine was not allowed.
    #[error(
        "{host} is another machine and the connection would not be encrypted: choose TLS or STARTTLS, or allow plain text"
    )]
    PlaintextRefused {
        /// The host.
        host: String,
    },
}

/// The certificate authorities that connections believe, made once and shared.
#[derive(Clone)]
pub struct Trust {
    config: Arc<ClientConfig>,
}

/// The extra certificate authorities, or the TLS set-up itself, cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the extra certificate authorities cannot be used: {0}")]
pub struct TrustError(String);

impl Trust {
    /// The operating system's authorities, and those in `extra_ca_pem` (a PEM bundle) beside them.
    ///
    /// # Errors
    /// When the bundle is not PEM, holds no certificate, or holds one that is no authority.
    pub fn new(extra_ca_pem: Option<&str>) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::warn!(%error, "a certificate authority of the operating system was passed over");
        }
        roots.add_parsable_certificates(native.certs);
        if let Some(pem) = extra_ca_pem {
            add_bundle(&mut roots, pem)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TrustError(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config) })
    }

    /// The rustls configuration, for clients that bring their own connections (HTTP).
    #[must_use]
    pub fn client_config(&self) -> ClientConfig {
        ClientConfig::clone(&self.config)
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}

fn add_bundle(roots: &mut RootCertStore, pem: &str) -> Result<(), TrustError> {
    let mut found = 0_usize;
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| TrustError(error.to_string()))?;
        roots.add(certificate).map_err(|error| TrustError(error.to_string()))?;
        found += 1;
    }
    if found == 0 {
        return Err(TrustError("the text holds no certificate".to_owned()));
    }
    Ok(())
}

/// A connection to a mail server, encrypted or not.
#[derive(Debug)]
pub enum Stream {
    /// Not encrypted.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether what crosses this connection is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

/// Resolves, connects, and for [`Security::Tls`] makes the handshake; each is a step in `log`.
/// For [`Security::Starttls`] the caller speaks the protocol's STARTTLS and then calls [`secure`].
///
/// # Errors
/// The stage that failed, as a [`NetError`].
pub async fn connect(
    endpoint: &Endpoint,
    deadlines: &Deadlines,
    log: &mut CheckLog,
) -> Result<Stream, NetError> {
    let addresses = log
        .step(CheckName::Resolve, resolve(endpoint, deadlines), |found| {
            format!("{} is {}", endpoint.host, list(found))
        })
        .await?;
    let socket = log
        .step(CheckName::Connect, open(endpoint, &addresses, deadlines), |socket| {
            socket.peer_addr().map_or_else(|_| "connected".to_owned(), |peer| format!("connected to {peer}"))
        })
        .await?;
    match endpoint.security {
        Security::Tls => {
            log.step(CheckName::Tls, secure(endpoint, Stream::Plain(socket), deadlines), describe_tls).await
        }
        Security::Starttls | Security::None => Ok(Stream::Plain(socket)),
    }
}

/// Makes the TLS handshake on a plain connection, checking the certificate against the endpoint's host.
///
/// # Errors
/// [`NetError::Tls`] when the handshake fails, takes too long, or the certificate is not good.
pub async fn secure(endpoint: &Endpoint, stream: Stream, deadlines: &Deadlines) -> Result<Stream, NetError> {
    let failed = |reason: String| NetError::Tls { host: endpoint.host.clone(), reason };
    let Stream::Plain(socket) = stream else {
        return Ok(stream);
    };
    let name = ServerName::try_from(endpoint.host.clone())
        .map_err(|_| failed("the host is neither a host name nor an IP address".to_owned()))?;
    let connector = TlsConnector::from(Arc::clone(&endpoint.trust.config));
    match timeout(deadlines.handshake, connector.connect(name, socket)).await {
        Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
        Ok(Err(error)) => Err(failed(explain(&error))),
        Err(_) => Err(failed("the server did not finish the TLS handshake in time".to_owned())),
    }
}

/// The words of a check for a handshake that worked, such as `TLSv1_3`.
#[must_use]
pub fn describe_tls(stream: &Stream) -> String {
    let Stream::Tls(stream) = stream else {
        return "not encrypted".to_owned();
    };
    let version = stream.get_ref().1.protocol_version();
    version.map_or_else(|| "encrypted".to_owned(), |version| format!("encrypted with {version:?}"))
}

async fn resolve(endpoint: &Endpoint, deadlines: &Deadlines) -> Result<Vec<SocketAddr>, NetError> {
    let failed = |reason: String| NetError::Resolve { host: endpoint.host.clone(), reason };
    let lookup = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port));
    let found: Vec<SocketAddr> = timeout(deadlines.resolve, lookup)
        .await
        .map_err(|_| failed("the name server did not answer in time".to_owned()))?
        .map_err(|error| failed(error.to_string()))?
        .collect();
    if found.is_empty() {
        return Err(failed("the name has no address".to_owned()));
    }
    // Decided on the addresses, not on the name: `localhost` can point anywhere.
    let leaves_machine = found.iter().any(|address| !address.ip().is_loopback());
    if endpoint.security == Security::None && leaves_machine && !endpoint.allow_plaintext {
        return Err(NetError::PlaintextRefused { host: endpoint.host.clone() });
    }
    Ok(found)
}

async fn open(
    endpoint: &Endpoint,
    addresses: &[SocketAddr],
    deadlines: &Deadlines,
) -> Result<TcpStream, NetError> {
    let failed =
        |reason: String| NetError::Connect { host: endpoint.host.clone(), port: endpoint.port, reason };
    let mut last = "the host has no address".to_owned();
    let share = deadlines.connect / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    for address in addresses {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => {
                socket.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
                return Ok(socket);
            }
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = "the server did not answer in time".to_owned(),
        }
    }
    Err(failed(last))
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ")
}

fn explain(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(problem)) => explain_certificate(problem),
        Some(rustls::Error::InvalidMessage(_)) => {
            "the server does not speak TLS on this port; perhaps it wants STARTTLS".to_owned()
        }
        Some(other) => other.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the server closed the connection during the TLS handshake".to_owned()
        }
        None => error.to_string(),
    }
}

fn explain_certificate(problem: &CertificateError) -> String {
    match problem {
        CertificateError::UnknownIssuer => {
            "the certificate is not signed by an authority that this machine trusts".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the certificate is for another host name".to_owned()
        }
        other => format!("the certificate is not good ({other})"),
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
