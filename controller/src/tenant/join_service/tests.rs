//! The service over TLS on a network in memory.

use super::*;
use crate::boot::testing::{Running, Wire, ask};

const SERVICE: [u8; 4] = [192, 168, 101, 254];

struct Office {
    down: std::sync::atomic::AtomicBool,
}

impl Tickets for Office {
    fn find<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<JoinTicket>, TicketsError>> {
        let ticket = JoinTicket {
            secret: Secret::new("0123456789abcdef"),
            endpoint: "192.168.101.2:6443".into(),
            ca_hash: format!("sha256:{}", "ab".repeat(32)),
            node_name: "machine-1".into(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            provider_id: None,
            kubernetes_version: None,
        };
        let down = self.down.load(std::sync::atomic::Ordering::SeqCst);
        Box::pin(async move {
            if down {
                Err(TicketsError("no cluster".into()))
            } else {
                Ok((id == "abcdef").then_some(ticket))
            }
        })
    }
}

struct Site {
    wire: Wire,
    office: Arc<Office>,
    _running: Running,
}

impl Site {
    async fn new() -> Self {
        let wire = Wire::default();
        let office = Arc::new(Office { down: false.into() });
        let address = SocketAddr::from((SERVICE, 443));
        let clock = Clock::starting_at(Timestamp::from_second(1_800_000_000).unwrap());
        let service = JoinService::new(address, wire.host(SERVICE), clock, office.clone()).unwrap();
        let _running = Running::of(async move { panic!("{}", service.run().await) });
        wire.listening(address).await;
        Site {
            wire,
            office,
            _running,
        }
    }

    async fn get(&self, from: u8, query: &str) -> (u16, String) {
        let request = Request::get(format!("https://192.168.101.254/node/join?{query}"))
            .body(Bytes::new())
            .unwrap();
        let response = ask(&self.wire.host([10, 100, 0, from]), request).await;
        (
            response.status().as_u16(),
            String::from_utf8(response.into_body().to_vec()).unwrap(),
        )
    }
}

#[tokio::test]
async fn a_token_gets_its_script() {
    let site = Site::new().await;
    let (status, script) = site.get(5, "token=abcdef.0123456789abcdef&type=worker").await;
    let want = format!(
        "\nkubeadm join 192.168.101.2:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:{} --node-name machine-1\n",
        "ab".repeat(32)
    );
    assert!(
        status == 200 && script.starts_with("#!/bin/sh\n") && script.ends_with(&want),
        "{status} {script}"
    );
    let (status, text) = site
        .get(5, "token=abcdef.0123456789abcdef&type=control-plane")
        .await;
    assert!(status == 400 && text.contains("only worker"), "{text}");
    site.office.down.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(site.get(5, "token=abcdef.0123456789abcdef").await.0, 503);
}

#[tokio::test]
async fn wrong_tokens_are_refused_in_words_and_guessing_is_bounded() {
    let site = Site::new().await;
    for token in [
        "",
        "abcdef",
        "abcdef.0123456789abcdeX",
        "abcdef.0123456789abcdee",
        "zzzzzz.0123456789abcdef",
        "abcdef.0123456789abcdef0",
    ] {
        let (status, text) = site.get(6, &format!("token={token}")).await;
        assert!(
            status == 403 && text.contains("unknown or has expired"),
            "{token}: {status} {text}"
        );
    }
    for _ in 6..FAILURES_MAX {
        site.get(6, "token=guess").await;
    }
    assert_eq!(
        site.get(6, "token=abcdef.0123456789abcdef").await.0,
        429,
        "even with the right one"
    );
    assert_eq!(
        site.get(7, "token=abcdef.0123456789abcdef").await.0,
        200,
        "others are not hurt"
    );
}

#[test]
fn failures_are_forgotten_and_bounded() {
    let at = |s: i64| Timestamp::from_second(1_800_000_000 + s).unwrap();
    let ip = |n: u32| IpAddr::from(std::net::Ipv4Addr::from(n));
    let mut failures = Failures::default();
    for _ in 0..FAILURES_MAX {
        assert!(!failures.over(ip(1), at(0)));
        failures.count(ip(1), at(0));
    }
    assert!(failures.over(ip(1), at(59)) && !failures.over(ip(1), at(60)));
    for n in 0..3000 {
        failures.count(ip(n), at(60));
    }
    assert_eq!(failures.0.len(), PEERS_MAX);
}
