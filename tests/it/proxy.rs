//! A faulty proxy on loopback. It drops connections, stalls, truncates bodies, replies with errors of its
//! own, and drops responses to requests that the server has handled.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Maximum length of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// All faults, each equally likely.
const FAULTS: [Fault; 8] = [
    Fault::Drop,
    Fault::CutRequest,
    Fault::CutAnswer,
    Fault::SwallowAnswer,
    Fault::Answer("429 Too Many Requests\r\nRetry-After: 0"),
    Fault::Answer("500 Internal Server Error"),
    Fault::Answer("503 Service Unavailable"),
    Fault::Answer("403 Forbidden"),
];

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Closes the connection at once.
    Drop,
    /// Forwards half of the request.
    CutRequest,
    /// Forwards a part of the response.
    CutAnswer,
    /// Forwards the request and drops the response.
    SwallowAnswer,
    /// Sends this response without forwarding the request.
    Answer(&'static str),
}

/// A proxy in front of a server on loopback.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    is_over: Arc<AtomicBool>,
    n_requests: Arc<AtomicU64>,
    n_faults: Arc<AtomicU64>,
}

impl Proxy {
    /// Starts a proxy that fails `percent` of the requests.
    pub(crate) fn new(server: u16, percent: u32, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let proxy = Self {
            port,
            is_over: Arc::default(),
            n_requests: Arc::default(),
            n_faults: Arc::default(),
        };
        let is_over = proxy.is_over.clone();
        let (n_requests, n_faults) = (proxy.n_requests.clone(), proxy.n_faults.clone());
        let mut luck = fastrand::Rng::with_seed(seed);
        let accept = move || {
            for client in listener.incoming() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = client else { continue };
                n_requests.fetch_add(1, Ordering::Relaxed);
                let is_fault = luck.u32(0..100) < percent;
                let fault = is_fault.then(|| FAULTS[luck.usize(0..FAULTS.len())]);
                n_faults.fetch_add(u64::from(is_fault), Ordering::Relaxed);
                let serve = move || drop(serve(&client, server, fault));
                thread::Builder::new().name("proxy".to_owned()).spawn(serve).expect("a thread");
            }
        };
        thread::Builder::new().name("proxy".to_owned()).spawn(accept).expect("a thread");
        proxy
    }

    /// Returns the number of requests and the number of failed ones.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.n_requests.load(Ordering::Relaxed), self.n_faults.load(Ordering::Relaxed))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

/// Serves one request and closes the connection, so that each request can fail.
fn serve(client: &TcpStream, server: u16, fault: Option<Fault>) -> io::Result<()> {
    client.set_read_timeout(Some(Duration::from_mins(1)))?;
    let (mut from_client, mut to_client) = (client, client);
    if matches!(fault, Some(Fault::Drop)) {
        return client.shutdown(Shutdown::Both);
    }
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX || from_client.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.to_lowercase().starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let n_body: usize = field("content-length:").and_then(|n| n.parse().ok()).unwrap_or(0);
    let is_chunked = field("transfer-encoding:").is_some();
    if let Some(Fault::Answer(status)) = fault {
        if !is_chunked {
            io::copy(&mut from_client.take(n_body as u64), &mut io::sink())?;
        }
        let answer =
            format!("HTTP/1.1 {status}\r\nContent-Length: 4\r\nConnection: close\r\n\r\nno!\n");
        return to_client.write_all(answer.as_bytes());
    }
    let behind = TcpStream::connect(("127.0.0.1", server))?;
    let (mut to_server, mut from_server) = (&behind, &behind);
    let kept = text
        .lines()
        .filter(|line| !line.is_empty() && !line.to_lowercase().starts_with("connection:"));
    let head: String = kept.flat_map(|line| [line, "\r\n"]).collect();
    to_server.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
    if matches!(fault, Some(Fault::CutRequest)) && n_body > 1 {
        io::copy(&mut from_client.take(n_body as u64 / 2), &mut to_server)?;
        behind.shutdown(Shutdown::Both)?;
        return client.shutdown(Shutdown::Both);
    }
    if is_chunked {
        // Read up to the last chunk.
        let mut body = Vec::new();
        while !body.ends_with(b"0\r\n\r\n") {
            if from_client.read(&mut byte)? == 0 {
                return Ok(());
            }
            body.push(byte[0]);
        }
        to_server.write_all(&body)?;
    } else {
        io::copy(&mut from_client.take(n_body as u64), &mut to_server)?;
    }
    let mut answer = Vec::new();
    from_server.read_to_end(&mut answer)?;
    let answer = match fault {
        Some(Fault::SwallowAnswer) => &answer[..0],
        Some(Fault::CutAnswer) => &answer[..answer.len() / 2],
        _ => &answer[..],
    };
    to_client.write_all(answer)?;
    client.shutdown(Shutdown::Both)
}
