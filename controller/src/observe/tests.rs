//! What counts as known, and since when.

use super::*;
use std::time::Duration;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).unwrap()
}

fn reading(second: i64, servers: &[(&str, &str)]) -> Observed<Arc<FabricSnapshot>> {
    let facts = |network: &str| FabricFacts {
        networks: vec![network.into()],
        converged: true,
        mismatch: None,
    };
    let snapshot = FabricSnapshot {
        servers: servers
            .iter()
            .map(|(server, network)| ((*server).to_owned(), facts(network)))
            .collect(),
        networks: servers
            .iter()
            .map(|(_, network)| ((*network).to_owned(), None))
            .collect(),
    };
    Observed::Known {
        value: Arc::new(snapshot),
        at: at(second),
    }
}

#[test]
fn a_fact_older_than_the_accepted_order_is_unknown() {
    let facts = Facts::new(at(0));
    facts.set_fabric(reading(1, &[("a", "home")]));
    facts.fabric_accepted("a", at(2));
    assert_eq!(facts.fabric("a").ignorance(), Some(&Ignorance::NotAsked));
    assert!(!facts.fabric_settled("a"));
    let news = facts.set_fabric(reading(2, &[("a", "home")]));
    assert_eq!(
        news.servers,
        ["a"],
        "whoever ordered is told even if nothing has moved"
    );
    assert!(facts.fabric_settled("a"));
}

#[test]
fn a_refusal_rests_and_ends() {
    let facts = Facts::new(at(0));
    facts.set_fabric(reading(1, &[("a", "home")]));
    facts.fabric_refused("a", at(2), "503".into());
    assert_eq!(
        facts.set_fabric(reading(3, &[("a", "home")])),
        FabricNews::default()
    );
    assert_eq!(
        facts.fabric("a").ignorance(),
        Some(&Ignorance::Unreachable("503".into()))
    );
    let news = facts.set_fabric(reading(4, &[("a", "home")]));
    assert_eq!(news.servers, ["a"]);
    assert!(facts.fabric("a").known().is_some());
}

#[test]
fn news_are_what_differs() {
    let facts = Facts::new(at(0));
    assert!(facts.set_fabric(reading(1, &[("a", "home"), ("b", "home")])).all);
    let news = facts.set_fabric(reading(2, &[("a", "home"), ("c", "one")]));
    assert_eq!(
        news,
        FabricNews {
            all: false,
            servers: vec!["c".into(), "b".into()],
            networks: true
        }
    );
    assert!(
        facts
            .fabric("b")
            .known()
            .unwrap()
            .mismatch
            .as_ref()
            .unwrap()
            .contains("\"b\"")
    );
    let lost = Observed::Unknown {
        since: at(3),
        why: Ignorance::Unreachable("no route".into()),
    };
    assert!(facts.set_fabric(lost.clone()).all);
    assert_eq!(facts.set_fabric(lost), FabricNews::default());
}

#[test]
fn a_network_that_is_there_was_made_whoever_refused() {
    let facts = Facts::new(at(0));
    facts.set_fabric(reading(1, &[("a", "home")]));
    assert_eq!(facts.network("one").ignorance(), Some(&Ignorance::NotAsked));
    assert!(facts.network_made("one", at(1), Some("no template".into())));
    assert!(
        !facts.network_made("one", at(2), Some("no template".into())),
        "that is known"
    );
    assert!(facts.network_rests("one", at(3)));
    assert!(!facts.network_rests("one", at(4)));
    assert_eq!(
        facts.network("one").ignorance(),
        Some(&Ignorance::Unreachable("no template".into()))
    );
    facts.set_fabric(reading(5, &[("a", "one")]));
    assert!(facts.network("one").known().is_some());
}

#[test]
fn a_host_that_is_gone_leaves_nothing() {
    let facts = Facts::new(at(0));
    let host = Key::new("ns", "a");
    facts.set_fabric(reading(1, &[("a", "home")]));
    facts.fabric_refused("a", at(1), "503".into());
    facts.fabric_accepted("b", at(9));
    facts.forget(&host);
    assert!(facts.fabric("a").known().is_some());
    assert!(facts.fabric("b").known().is_none());
    assert!(
        REFUSAL_STANDS.unsigned_abs() >= Duration::from_secs(1),
        "else a refused order is repeated in haste"
    );
}
