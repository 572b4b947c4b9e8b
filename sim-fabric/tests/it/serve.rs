//! The management API on a loopback socket with TLS, as a lab serves it, and its orderly end.

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
};
use sim_fabric::serve;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::support::{Lab, PASSWORD, USER};

#[tokio::test]
async fn over_tls_until_it_is_stopped() {
    let lab = Lab::new();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let router = lab.fabric.netris(USER, PASSWORD);
    let story = async {
        // Somebody who connects and says nothing must not keep anyone.
        let mut silent = TcpStream::connect(at).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = TcpStream::connect(at).await.unwrap();
        let mut stream = TlsConnector::from(Arc::new(client))
            .connect(name, stream)
            .await
            .unwrap();
        let body = format!(r#"{{"user":"{USER}","password":"{PASSWORD}"}}"#);
        let request = format!(
            "POST /api/auth HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let size = stream.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..size]).into_owned();
        assert!(
            answer.starts_with("HTTP/1.1 200 OK") && answer.contains("connect.sid="),
            "{answer}"
        );
        stop.cancel();
        assert_eq!(silent.read(&mut [0; 1]).await.unwrap_or(0), 0);
    };
    let both = async {
        tokio::join!(
            serve(listener, router, Some(Arc::new(server)), stop.clone()),
            story
        )
    };
    tokio::time::timeout(Duration::from_secs(20), both)
        .await
        .expect("serve ends when it is stopped");
    assert!(TcpStream::connect(at).await.is_err(), "nobody listens any more");
}
