use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use super::*;
use crate::sinks::contract::Images;

const SHORT_TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(10),
    answer: Duration::from_millis(300),
    bytes_per_s_min: 16 << 10,
};

/// Starts a server that passes the head of each connection's first request to `answer`.
fn server(answer: impl Fn(&str, &mut TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let serve = move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                head.push(byte[0]);
            }
            answer(&String::from_utf8_lossy(&head), &mut stream);
        }
    };
    std::thread::Builder::new().name("server".to_owned()).spawn(serve).expect("a thread");
    address
}

fn saying(text: &'static str) -> SocketAddr {
    server(move |_, stream| stream.write_all(text.as_bytes()).expect("an answer"))
}

fn answering(status: u16, headers: &str, body: &str) -> SocketAddr {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} Words\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    );
    server(move |_, stream| stream.write_all(text.as_bytes()).expect("an answer"))
}

async fn ask_with(
    address: SocketAddr,
    credentials: Credentials,
    timeouts: Timeouts,
) -> Result<String, HttpError> {
    let client = HttpClient::with(&format!("http://{address}/base"), credentials, timeouts);
    let client = client.expect("a client");
    let request = client.request(Method::POST, "a b/c#d").body("what");
    let (body, _) = client.send_and_read(request).await?;
    Ok(String::from_utf8(body).expect("text"))
}

async fn ask(address: SocketAddr) -> Result<String, HttpError> {
    ask_with(address, Credentials::None, TIMEOUTS).await
}

#[tokio::test]
async fn the_status_decides_between_retry_and_reject() {
    let item = Images::new().image("k", 1, 0);
    for (status, is_retried) in [
        (400, false),
        (404, false),
        (409, false),
        (413, false),
        (422, false),
        (401, true),
        (403, true),
        (408, true),
        (425, true),
        (429, true),
        (500, true),
        (502, true),
        (503, true),
        (301, true),
        (302, true),
    ] {
        let body = r#"{"error_code": "X", "message": "not\n like this"}"#;
        let error = ask(answering(status, "", body)).await.expect_err("an error");
        let message = error.to_string();
        let is_redirection = matches!(status, 301 | 302);
        let start = "POST /base/a%20b/c%23d: the target answered ";
        assert!(is_redirection || message.starts_with(start), "{message}");
        assert!(message.contains(&status.to_string()), "{message}");
        assert!(message.contains(": not like this"), "{message}");
        let error = error.for_item(&item);
        match error {
            SinkError::Retry { after: None, .. } => assert!(is_retried, "{status}"),
            SinkError::Reject { seq, .. } if seq == item.seq => {
                assert!(!is_retried, "{status}");
            }
            other => panic!("{other:?}"),
        }
    }
    let refused = ask(answering(400, "", "")).await.expect_err("an error");
    assert!(matches!(SinkError::from(refused), SinkError::Retry { .. }));
    assert_eq!(ask(answering(200, "", "fine")).await.expect("an answer"), "fine");
}

#[tokio::test]
async fn retry_after_is_read_in_seconds_or_as_a_date() {
    for (headers, want) in [
        ("retry-after: 7\r\n", Some(7)),
        (
            "retry-after: Thu, 26 Nov 2026 10:01:30 GMT\r\ndate: Thu, 26 Nov 2026 10:00:00 GMT\r\n",
            Some(90),
        ),
        // A date in the past.
        ("retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Some(0)),
        ("retry-after: soon\r\n", None),
        ("", None),
    ] {
        for status in [429, 503] {
            let error = ask(answering(status, headers, "")).await.expect_err("an error");
            let HttpError::Temporary { after, .. } = error else { panic!("{error}") };
            assert_eq!(after, want.map(Duration::from_secs), "{headers}");
        }
    }
}

#[tokio::test]
async fn a_target_without_a_whole_answer_is_retried() {
    for text in [
        // Bodies that end early, no answer, and another protocol.
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "",
        "SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        let error = ask(saying(text)).await.expect_err("an error");
        assert!(matches!(error, HttpError::Temporary { .. }), "{text}: {error:?}");
    }
    // Nothing listens on the port.
    let port = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = port.local_addr().expect("an address");
    drop(port);
    let error = ask(address).await.expect_err("an error");
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn an_answer_that_ends_at_any_byte_is_retried() {
    let whole = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"a\": {}}";
    for n in 0..whole.len() {
        let error = ask(saying(&whole[..n])).await.expect_err("an error");
        assert!(matches!(error, HttpError::Temporary { .. }), "{n}: {error:?}");
    }
    assert_eq!(ask(saying(whole)).await.expect("an answer"), "{\"a\": {}}");
}

#[tokio::test]
async fn a_field_of_a_good_answer_is_quoted_shortly_and_without_secrets() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("secret"), "hunter2").expect("a file");
    let body: &str = Box::leak(format!("{{\"id\": \"hunter2 {}\"}}", "x".repeat(1 << 20)).into());
    let address = answering(200, "", body);
    let secret = SecretSource::File(folder.path().join("secret"));
    let client = HttpClient::new(&format!("http://{address}"), Credentials::Bearer(secret));
    let client = client.expect("a client");
    let got = client
        .send_for::<std::collections::BTreeMap<String, u64>>(client.request(Method::GET, "x"))
        .await;
    let error = got.expect_err("a text instead of a number").to_string();
    assert!(error.contains("invalid type: string") && error.chars().count() < 600, "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_target_that_stalls_is_timed_out() {
    for text in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"] {
        let (sender, kept) = std::sync::mpsc::sync_channel(1);
        let address = server(move |_, stream| {
            stream.write_all(text.as_bytes()).expect("an answer");
            // The connection stays open.
            sender.send(stream.try_clone().expect("a stream")).expect("a test");
        });
        let error =
            ask_with(address, Credentials::None, SHORT_TIMEOUTS).await.expect_err("an error");
        assert!(matches!(error, HttpError::Temporary { .. }), "{error:?}");
        assert!(error.to_string().contains("timed out"), "{error}");
        drop(kept);
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_not_read() {
    let address = server(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("a head");
        while stream.write_all(&[b'x'; 1 << 13]).is_ok() {}
    });
    let error = ask(address).await.expect_err("an error");
    assert!(error.to_string().contains("more than 8388608 bytes"), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_not_json_is_quoted() {
    let client = |address| HttpClient::new(&format!("http://{address}"), Credentials::None);
    for body in ["", "true", "OK"] {
        let client = client(answering(200, "", body)).expect("a client");
        let error = client.send(client.request(Method::PUT, "x")).await.expect_err("an error");
        assert!(error.to_string().contains("expected JSON"), "{body}: {error}");
    }
    let client = client(answering(200, "", "<html>Log in</html>")).expect("a client");
    let got: Result<serde_json::Value, _> = client.send_for(client.request(Method::GET, "x")).await;
    let error = got.expect_err("an error").to_string();
    assert!(error.contains("\"<html>Log in</html>\"): check `url`"), "{error}");
}

/// Starts a server that answers with the request's `Authorization` or `X-Token`.
fn echo(status: u16) -> SocketAddr {
    server(move |head, stream| {
        let sent = head.lines().filter_map(|line| line.split_once(": "));
        let sent: Vec<&str> = sent
            .filter(|(name, _)| ["authorization", "x-token"].contains(name))
            .map(|(_, value)| value)
            .collect();
        let body = sent.join(",");
        let length = body.len();
        let text = format!(
            "HTTP/1.1 {status} Words\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes()).expect("an answer");
    })
}

#[tokio::test]
async fn secrets_are_sent_and_not_logged() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("secret");
    let secret = || SecretSource::File(path.clone());
    let name = HeaderName::from_static("x-token");
    let basic = Credentials::Basic { username: "me".to_owned(), password: secret() };
    for (credentials, want) in [
        (Credentials::Bearer(secret()), ["Bearer hunter2", "Bearer hunter3"]),
        (basic, ["Basic bWU6aHVudGVyMg==", "Basic bWU6aHVudGVyMw=="]),
        (Credentials::Header(name, secret()), ["hunter2", "hunter3"]),
    ] {
        // The secret is renewed while the program runs.
        for (secret, want) in ["hunter2", "hunter3"].into_iter().zip(want) {
            std::fs::write(&path, secret).expect("a file");
            let got = ask_with(echo(200), credentials.clone(), TIMEOUTS).await;
            assert_eq!(got.expect("an answer"), want);
            let error = ask_with(echo(403), credentials.clone(), TIMEOUTS).await;
            let error = error.expect_err("an error").to_string();
            assert!(!error.contains(secret) && !error.contains("bWU6"), "{error}");
        }
        std::fs::remove_file(&path).expect("a file");
        let error = ask_with(echo(200), credentials, TIMEOUTS).await.expect_err("an error");
        assert!(matches!(error, HttpError::Temporary { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn redirections_are_followed_on_the_same_server_only() {
    let there = saying("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmore");
    let elsewhere = answering(307, &format!("location: http://{there}/x?key=hunter2\r\n"), "");
    let error = ask(elsewhere).await.expect_err("an error");
    let message = error.to_string();
    assert!(matches!(error, HttpError::Temporary { .. }), "{error:?}");
    let want = format!(
        "http://{elsewhere}/base/a%20b/c%23d redirects with 307 Temporary Redirect to http://{there}/x, which"
    );
    assert!(message.contains(&want), "{message}");

    // The redirected request keeps its method.
    let within = server(|head, stream| {
        let text = if head.starts_with("POST /other ") {
            "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\ngood"
        } else {
            "HTTP/1.1 308 Moved\r\nlocation: /other\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        };
        stream.write_all(text.as_bytes()).expect("an answer");
    });
    assert_eq!(ask(within).await.expect("an answer"), "good");
}
