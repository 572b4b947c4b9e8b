//! The server over in-memory streams and over TLS on loopback.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use sim_bmc::faults::{Effect, Rule};
use sim_bmc::{BmcHandle, MachineState, self_signed, serve, serve_connection};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::{ADMIN, SYSTEM, bmc_of, memory_machine};

const PATIENCE: Duration = Duration::from_secs(20);

fn bmc() -> BmcHandle {
    bmc_of(Arc::new(memory_machine(MachineState::OFF)))
}

/// Trusts what it sees: what the certificate says is not what these tests are about.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn connector() -> TlsConnector {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

async fn client<IO>(tasks: &mut JoinSet<()>, io: IO) -> SendRequest<Full<Bytes>>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
    tasks.spawn(async move {
        let _ = connection.await;
    });
    sender
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::builder()
        .uri(path)
        .header(header::HOST, "bmc")
        .header(header::AUTHORIZATION, ADMIN)
        .body(Full::default())
        .unwrap()
}

async fn body(reply: Response<Incoming>) -> Bytes {
    reply.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn speaks_http_over_an_in_memory_stream() {
    let (ours, theirs) = tokio::io::duplex(4096);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { serve_connection(bmc(), None, theirs).await.unwrap() });
    let mut sender = client(&mut tasks, ours).await;
    let scenario = async {
        for _ in 0..3 {
            let reply = sender.send_request(get(SYSTEM)).await.unwrap();
            assert_eq!(reply.status(), 200);
            assert!(String::from_utf8_lossy(&body(reply).await).contains("\"PowerState\":\"Off\""));
        }
        let mut head = get(SYSTEM);
        *head.method_mut() = http::Method::HEAD;
        let reply = sender.send_request(head).await.unwrap();
        assert_eq!(reply.status(), 200);
        assert!(body(reply).await.is_empty());
        let mut huge = get(SYSTEM);
        *huge.method_mut() = http::Method::PATCH;
        *huge.body_mut() = Full::new(Bytes::from(vec![b' '; (1 << 20) + 1]));
        assert_eq!(
            sender.send_request(huge).await.unwrap().status(),
            StatusCode::PAYLOAD_TOO_LARGE
        );
    };
    timeout(PATIENCE, scenario).await.unwrap();
}

#[tokio::test]
async fn serves_tls_on_loopback_until_stopped() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = self_signed(&["localhost".to_owned(), "127.0.0.1".to_owned()], "test").unwrap();
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let served = tasks.spawn(serve(listener, bmc(), Some(tls), stop.clone()));
    let scenario = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = connector().connect(name, stream).await.unwrap();
        let mut clients = JoinSet::new();
        let mut sender = client(&mut clients, stream).await;
        let reply = sender.send_request(get("/redfish/v1/")).await.unwrap();
        assert_eq!(reply.headers()["odata-version"], "4.0");
        assert_eq!(reply.status(), 200);

        let plain = TcpStream::connect(address).await.unwrap();
        let mut sender = client(&mut clients, plain).await;
        let reply = sender
            .send_request(get("/redfish/v1/Systems?only"))
            .await
            .unwrap();
        assert_eq!(reply.status(), StatusCode::PERMANENT_REDIRECT);
        assert_eq!(reply.headers()["location"], "https://bmc/redfish/v1/Systems?only");

        stop.cancel();
        while let Some(ended) = tasks.join_next_with_id().await {
            let (id, ()) = ended.unwrap();
            assert_eq!(id, served.id());
        }
        assert!(
            TcpStream::connect(address).await.is_err(),
            "nobody listens any more"
        );
    };
    timeout(PATIENCE, scenario).await.unwrap();
}

#[tokio::test]
async fn closes_connections_while_refusing() {
    let bmc = bmc();
    let _refusing = bmc.fault(Rule::always(Effect::RefuseConnections));
    let (mut ours, theirs) = tokio::io::duplex(64);
    timeout(PATIENCE, serve_connection(bmc, None, theirs))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ours.read(&mut [0; 1]).await.unwrap(), 0, "closed");
}

#[tokio::test]
async fn survives_what_is_no_http() {
    for garbage in [
        &b"\x16\x03\x01nonsense that is no handshake"[..],
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
    ] {
        let tls = self_signed(&["localhost".to_owned()], "test").unwrap();
        let (mut ours, theirs) = tokio::io::duplex(1024);
        let story = async move {
            ours.write_all(garbage).await.unwrap();
            let mut answer = Vec::new();
            let _ = ours.read_to_end(&mut answer).await;
        };
        let (_, served) = timeout(PATIENCE, async {
            tokio::join!(story, serve_connection(bmc(), Some(tls), theirs))
        })
        .await
        .expect("the connection ends");
        assert!(served.is_err(), "{garbage:?}");
    }
}
