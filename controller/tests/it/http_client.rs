//! The HTTP client against peers that behave badly.

use crate::support::MemNet;
use bytes::Bytes;
use http::{Method, Request};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use steelyard_controller::{
    http_client::{HttpClient, HttpError},
    tls,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const TIMEOUT: Duration = Duration::from_secs(20);
const PEER: &str = "10.0.0.1:80";

/// Reads one request's head and its body, if it says how long that is. `None`: the client has gone.
async fn request(io: &mut DuplexStream) -> Option<String> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(io.read_u8().await.ok()?);
    }
    let head = String::from_utf8(text).unwrap();
    let length = head
        .to_ascii_lowercase()
        .split("content-length: ")
        .nth(1)
        .map(|rest| rest.split("\r\n").next().unwrap().parse().unwrap());
    let mut body = vec![0; length.unwrap_or(0)];
    io.read_exact(&mut body).await.ok()?;
    Some(head)
}

async fn answer(io: &mut DuplexStream, body: &str) {
    let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let _ = io.write_all(text.as_bytes()).await;
}

fn client(net: &Arc<MemNet>) -> HttpClient {
    HttpClient::new(net.clone(), tls::trust_anyone().unwrap(), TIMEOUT)
}

fn ask(method: Method, url: &str) -> Request<Bytes> {
    Request::builder()
        .method(method)
        .uri(url)
        .body(Bytes::from_static(b"x"))
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_connection_serves_many_requests() {
    let net = Arc::new(MemNet::default());
    net.serve(PEER, |mut io| async move {
        while let Some(head) = request(&mut io).await {
            answer(&mut io, head.lines().next().unwrap()).await;
        }
    });
    let client = client(&net);
    for n in 0..5 {
        let response = client
            .send(ask(Method::GET, &format!("http://10.0.0.1/a/{n}?b=c")))
            .await
            .unwrap();
        assert_eq!(response.into_body(), format!("GET /a/{n}?b=c HTTP/1.1"));
    }
    client.send(ask(Method::POST, "http://10.0.0.1/")).await.unwrap();
    assert_eq!(net.connected(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_closed_while_idle_costs_no_request() {
    let net = Arc::new(MemNet::default());
    net.serve(PEER, |mut io| async move {
        request(&mut io).await;
        answer(&mut io, "once").await;
    });
    let client = client(&net);
    for method in [Method::GET, Method::POST, Method::GET, Method::PATCH] {
        client.send(ask(method, "http://10.0.0.1/")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(net.connected(), 4);
}

/// The peer takes the second request of a connection and closes without an answer: it may have acted on it.
#[tokio::test(start_paused = true)]
async fn only_what_changes_nothing_is_sent_twice() {
    let net = Arc::new(MemNet::default());
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    net.serve(PEER, move |mut io| {
        let count = count.clone();
        async move {
            request(&mut io).await;
            count.fetch_add(1, Ordering::SeqCst);
            answer(&mut io, "first").await;
            if request(&mut io).await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let client = client(&net);
    client.send(ask(Method::GET, "http://10.0.0.1/")).await.unwrap();
    client
        .send(ask(Method::GET, "http://10.0.0.1/"))
        .await
        .expect("asked again on a new connection");
    assert_eq!((taken.load(Ordering::SeqCst), net.connected()), (3, 2));
    let error = client
        .send(ask(Method::POST, "http://10.0.0.1/"))
        .await
        .unwrap_err();
    assert!(matches!(error, HttpError::Broken { .. }), "{error}");
    assert_eq!(
        (taken.load(Ordering::SeqCst), net.connected()),
        (4, 2),
        "not sent a second time"
    );
    client
        .send(ask(Method::POST, "http://10.0.0.1/"))
        .await
        .expect("the next one has a new connection");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_ends_with_the_connection_is_whole_or_an_error() {
    let net = Arc::new(MemNet::default());
    net.serve(PEER, |mut io| async move {
        let head = request(&mut io).await.unwrap_or_default();
        let text: &[u8] = match head.contains("/short") {
            true => b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
            false => b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nall of it",
        };
        let _ = io.write_all(text).await;
    });
    let client = client(&net);
    assert_eq!(
        client
            .send(ask(Method::GET, "http://10.0.0.1/"))
            .await
            .unwrap()
            .into_body(),
        "all of it"
    );
    let error = client
        .send(ask(Method::GET, "http://10.0.0.1/short"))
        .await
        .unwrap_err();
    assert!(matches!(error, HttpError::Broken { .. }), "{error}");
    assert_eq!(
        client
            .send(ask(Method::GET, "http://10.0.0.1/"))
            .await
            .unwrap()
            .into_body(),
        "all of it"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_too_much_or_too_slow_ends() {
    let net = Arc::new(MemNet::default());
    net.serve(PEER, |mut io| async move {
        request(&mut io).await;
        let _ = io.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while io.write_all(&[b'x'; 64 << 10]).await.is_ok() {}
    });
    net.serve("10.0.0.2:80", |mut io| async move {
        request(&mut io).await;
        std::future::pending().await
    });
    let client = client(&net);
    let error = client
        .send(ask(Method::GET, "http://10.0.0.1/"))
        .await
        .unwrap_err();
    assert!(matches!(error, HttpError::TooLarge { .. }), "{error}");
    let before = tokio::time::Instant::now();
    let error = self::client(&net)
        .send(ask(Method::GET, "http://10.0.0.2/"))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "10.0.0.2:80 did not answer within 20 s");
    assert_eq!(before.elapsed(), TIMEOUT);
    let error = client
        .send(ask(Method::GET, "http://10.0.0.3/"))
        .await
        .unwrap_err();
    assert!(matches!(error, HttpError::Connect { .. }), "{error}");
    let error = client
        .send(ask(Method::GET, "ftp://10.0.0.3/"))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("the scheme must be http or https"),
        "{error}"
    );
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_told_apart_from_no_tls() {
    let clock = steelyard_controller::Clock::system();
    let cluster = crate::support::cluster(clock, |options| options.sans = vec!["10.0.0.1".into()]);
    let server = cluster.server.clone();
    let net = Arc::new(MemNet::default());
    net.serve("10.0.0.1:443", move |io| {
        let server = server.clone();
        async move { drop(sim_kube::serve_connection(server.clone(), server.tls(), io).await) }
    });
    net.serve("10.0.0.2:443", |mut io| async move {
        drop(io.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").await)
    });
    let ask = || ask(Method::GET, "https://10.0.0.1/version");
    let trusting = HttpClient::new(
        net.clone(),
        tls::trust_ca(&cluster.server.ca_pem(), "the CA").unwrap(),
        TIMEOUT,
    );
    assert_eq!(trusting.send(ask()).await.unwrap().status(), 200);
    let public = HttpClient::new(net.clone(), tls::trust_public().unwrap(), TIMEOUT);
    let error = public.send(ask()).await.unwrap_err();
    assert!(matches!(error, HttpError::Untrusted { .. }), "{error}");
    let url = "https://10.0.0.2/version";
    let error = public.send(self::ask(Method::GET, url)).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect { .. }), "{error}");
}
