//! A line-based server connection that can turn into a TLS one.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio_rustls::TlsAcceptor;

/// A socket, encrypted or not.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Reads lines and bytes, writes bytes.
pub struct LineIo {
    io: BufReader<Box<dyn Socket>>,
}

impl LineIo {
    pub fn new(socket: impl Socket + 'static) -> Self {
        Self { io: BufReader::new(Box::new(socket)) }
    }

    /// The next line without its line end; none when the client hung up.
    pub async fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        if self.io.read_until(b'\n', &mut line).await? == 0 {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&line);
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// The next line as it came, line end included; empty when the client hung up.
    pub async fn raw_line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.io.read_until(b'\n', &mut line).await?;
        Ok(line)
    }

    /// Exactly `length` bytes.
    pub async fn exact(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.io.read_exact(&mut bytes).await?;
        Ok(bytes)
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.io.write_all(bytes.as_ref()).await?;
        self.io.flush().await
    }

    /// Waits until the client hangs up, answering nothing.
    pub async fn hang(&mut self) -> io::Result<()> {
        let mut waste = [0; 1024];
        while self.io.read(&mut waste).await? > 0 {}
        Ok(())
    }

    /// Turns the connection into a TLS one.
    pub async fn secure(self, acceptor: &TlsAcceptor) -> io::Result<Self> {
        let tls = acceptor.accept(self.io.into_inner()).await?;
        Ok(Self::new(tls))
    }
}
