//! Asks a daemon over its socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

/// How long the daemon may take to begin its answer, and to do something that it is told.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_TO_DO: Duration = Duration::from_mins(10);

/// Why the daemon gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It can't be reached, or the connection broke.
    #[error("daemon at {socket}: {source}")]
    Io {
        /// Its socket.
        socket: String,
        /// What happened.
        source: io::Error,
    },
    /// It refused.
    #[error("daemon: {0}")]
    Refused(String),
}

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    socket: String,
    runtime: Runtime,
    sender: hyper::client::conn::http1::SendRequest<Empty<Bytes>>,
}

impl Client {
    /// Connects to the daemon at `socket`.
    ///
    /// # Errors
    /// If none answers there.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let name = socket.display().to_string();
        let failed = |source: io::Error| ClientError::Io { socket: name.clone(), source };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let sender = runtime.block_on(async {
            let stream = UnixStream::connect(socket).await?;
            let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .map_err(io::Error::other)?;
            tokio::spawn(connection);
            Ok(sender)
        });
        Ok(Self { sender: sender.map_err(failed)?, socket: name, runtime })
    }

    /// Connects once more: no conversation lasts for ever.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn connect_again(&mut self) -> Result<(), ClientError> {
        *self = Self::connect(Path::new(&self.socket))?;
        Ok(())
    }

    /// Asks for `path` and hands each line of the answer to `see` as it comes.
    ///
    /// # Errors
    /// If the daemon refuses or the connection breaks, or as `see` does.
    pub fn get<E: From<ClientError>>(
        &mut self,
        path: &str,
        see: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        self.ask(&Method::GET, path, see)
    }

    /// The same with another method.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn ask<E: From<ClientError>>(
        &mut self,
        method: &Method,
        path: &str,
        mut see: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "safelight")
            .body(Empty::new());
        let failed = |error: &dyn std::error::Error| ClientError::Io {
            socket: self.socket.clone(),
            source: io::Error::other(error.to_string()),
        };
        let request = request.map_err(|error| failed(&error))?;
        let sender = &mut self.sender;
        self.runtime.block_on(async {
            let patience = if method == Method::GET { PATIENCE } else { PATIENCE_TO_DO };
            let answer = tokio::time::timeout(patience, sender.send_request(request)).await;
            let response =
                answer.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
            let is_success = response.status().is_success();
            let mut refusal = String::new();
            let mut take = |line: &str| {
                if is_success {
                    see(line)
                } else {
                    refusal.push_str(line);
                    Ok(())
                }
            };
            each_line(response, &mut take, &failed).await?;
            if is_success { Ok(()) } else { Err(ClientError::Refused(refusal).into()) }
        })
    }
}

async fn each_line<E: From<ClientError>>(
    mut response: Response<Incoming>,
    take: &mut impl FnMut(&str) -> Result<(), E>,
    failed: &impl Fn(&dyn std::error::Error) -> ClientError,
) -> Result<(), E> {
    let mut begun = Vec::new();
    while let Some(frame) = response.frame().await {
        let frame = frame.map_err(|error| failed(&error))?;
        let Some(bytes) = frame.data_ref() else {
            continue;
        };
        begun.extend(bytes);
        while let Some(end) = memchr::memchr(b'\n', &begun) {
            let line: Vec<u8> = begun.drain(..=end).collect();
            take(String::from_utf8_lossy(&line[..end]).as_ref())?;
        }
    }
    if begun.is_empty() { Ok(()) } else { take(String::from_utf8_lossy(&begun).as_ref()) }
}
