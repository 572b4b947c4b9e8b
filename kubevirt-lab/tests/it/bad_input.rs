//! Mistakes that people make. Each ends in a state, a condition and an Event that name the cause and the fix, and is
//! over by itself once the cause is.

use crate::harness::{
    Bed, CLAIM, HOST, IMAGE, SECRET, bed, bmc_secret, condition, fails, host_object, is_true, no_error, plan,
    text,
};
use http::Method;
use serde_json::{Value, json};
use sim_bmc::{
    Password,
    faults::{Effect, Rule},
};
use steelyard_lab::lab::LabConfig;

const NAME: &str = "bare-metal-1";
/// As long as a backoff that begins with the lab's 4 s may take after a few failures.
const RECOVERS: u64 = 60;
const WRONG: &str = "not-the-password-9x7";

fn unmanageable(host: &Value, words: &[&str]) {
    let manageable = condition(host, "Manageable");
    assert_eq!(manageable["status"], "False", "{manageable}");
    assert_eq!(manageable["reason"], "RegistrationFailed", "{manageable}");
    told(manageable, words);
    assert_eq!(host["status"]["operationalStatus"], "error");
    assert_eq!(host["status"]["provisioning"]["state"], "registering");
}

fn told(condition: &Value, words: &[&str]) {
    for word in words {
        assert!(
            text(&condition["message"]).contains(word),
            "{word:?} is not in {condition}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_sent_once() {
    let mut bed = bed(plan(1)).await;
    bed.remember_secret(WRONG);
    bed.control();
    let planned = bed.server(NAME).planned.clone();
    bed.apply_object(bmc_secret(&planned, WRONG)).await;
    bed.apply_object(host_object(&planned)).await;
    let host = bed
        .until(HOST, NAME, 10, "refused", |h| {
            fails(h, "registration error", &["bare-metal-1-bmc"])
        })
        .await;
    unmanageable(&host, &["bare-metal-1-bmc", "correct the Secret"]);
    bed.until_event(
        NAME,
        1,
        "RegistrationError",
        &["bare-metal-1-bmc", "correct the Secret"],
    )
    .await;

    // Would it be sent again, it would be taken now.
    let bmc = bed.server(NAME).bmc.clone();
    assert!(bmc.set_password("admin", &Password::new(WRONG)));
    bed.pass(900).await;
    let host = bed.get(HOST, NAME).await.expect("the host");
    assert!(
        fails(&host, "registration error", &["bare-metal-1-bmc"]),
        "it was sent again: {}",
        host["status"]
    );
    // Nor does a new controller send it again: the status says that it was refused.
    bed.kill_controller().await;
    bed.control();
    bed.pass(60).await;
    let host = bed.get(HOST, NAME).await.expect("the host");
    assert!(
        fails(&host, "registration error", &["bare-metal-1-bmc"]),
        "it was sent again: {}",
        host["status"]
    );
    assert_eq!(host["status"]["errorCount"], 1, "{}", host["status"]);

    assert!(bmc.set_password("admin", &Password::new(&planned.bmc_password)));
    bed.apply_object(bmc_secret(&planned, &planned.bmc_password))
        .await;
    bed.until_state(NAME, RECOVERS, "available").await;
    bed.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_secret_is_awaited() {
    let mut bed = bed(plan(1)).await;
    bed.control();
    let planned = bed.server(NAME).planned.clone();
    bed.apply_object(host_object(&planned)).await;
    let host = bed
        .until(HOST, NAME, 10, "no Secret", |h| {
            fails(h, "registration error", &["bare-metal-1-bmc"])
        })
        .await;
    unmanageable(&host, &["bare-metal-1-bmc", "missing", "create it"]);
    bed.until_event(NAME, 1, "BMCCredentialError", &["bare-metal-1-bmc"])
        .await;
    let mut half = bmc_secret(&planned, "");
    half["stringData"]
        .as_object_mut()
        .expect("data")
        .remove("password");
    bed.apply_object(half).await;
    bed.until(HOST, NAME, 20, "half a Secret", |h| {
        fails(h, "registration error", &["password"])
    })
    .await;
    bed.apply_object(bmc_secret(&planned, &planned.bmc_password))
        .await;
    bed.until_state(NAME, RECOVERS, "available").await;
    bed.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_bmc_is_tried_again() {
    let mut bed = bed(plan(1)).await;
    bed.control();
    let refusing = bed
        .server(NAME)
        .bmc
        .fault(Rule::always(Effect::RefuseConnections));
    bed.register(NAME).await;
    let words = ["127.100.1.1", "spec.bmc.address"];
    let host = bed
        .until(HOST, NAME, 60, "unreachable", |h| {
            fails(h, "registration error", &words)
        })
        .await;
    unmanageable(&host, &words);
    bed.until_event(NAME, 1, "RegistrationError", &words).await;
    bed.until(HOST, NAME, 120, "tried again", |h| {
        h["status"]["errorCount"].as_i64() >= Some(2)
    })
    .await;
    drop(refusing);
    bed.until_state(NAME, 2 * RECOVERS, "available").await;
    bed.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_wrong_address_is_corrected() {
    let mut bed = bed(plan(1)).await;
    bed.control();
    let planned = bed.server(NAME).planned.clone();
    bed.apply_object(bmc_secret(&planned, &planned.bmc_password))
        .await;
    let mut host = host_object(&planned);
    let right = host["spec"]["bmc"]["address"].clone();
    host["spec"]["bmc"]["address"] = json!("redfish://127.100.99.99:8443/redfish/v1/Systems/1");
    bed.apply_object(host).await;
    let words = ["127.100.99.99", "spec.bmc.address"];
    bed.until(HOST, NAME, 60, "nothing there", |h| {
        fails(h, "registration error", &words)
    })
    .await;
    bed.until_event(NAME, 1, "RegistrationError", &words).await;
    // An edit is tried at once, whatever the backoff is.
    bed.merge(HOST, NAME, json!({"spec": {"bmc": {"address": right}}}))
        .await;
    bed.until(HOST, NAME, 3, "inspecting", |h| {
        h["status"]["provisioning"]["state"] == "inspecting"
    })
    .await;
    bed.until_state(NAME, RECOVERS, "available").await;
    bed.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_boot_mac_of_no_nic_is_refused() {
    let mut bed = bed(plan(1)).await;
    bed.control();
    let planned = bed.server(NAME).planned.clone();
    bed.apply_object(bmc_secret(&planned, &planned.bmc_password))
        .await;
    let mut host = host_object(&planned);
    host["spec"]["bootMACAddress"] = json!("52:54:00:de:ad:01");
    bed.apply_object(host).await;
    let right = planned.boot_mac().to_string();
    let words = ["spec.bootMACAddress", "52:54:00:de:ad:01", &right];
    let host = bed
        .until(HOST, NAME, 20, "refused", |h| {
            fails(h, "registration error", &words)
        })
        .await;
    unmanageable(&host, &words);
    bed.until_event(NAME, 1, "RegistrationError", &words).await;
    assert_eq!(
        bed.server(NAME).host.status().borrow().boots,
        0,
        "it was not switched on for nothing"
    );
    bed.merge(HOST, NAME, json!({"spec": {"bootMACAddress": right}}))
        .await;
    bed.until_state(NAME, RECOVERS, "available").await;
    bed.end().await;
}

/// Somebody has put the switch port into another network, or into none.
async fn wrong_vlan(network: Option<&str>) {
    let mut config = LabConfig::in_memory(plan(1));
    config.register = false;
    // The fabric is read for a minute of virtual time; ten times a second would only cost.
    config.controller_flags = vec!["--bmc-watch=1s".into()];
    let mut bed = Bed::start(config).await;
    bed.control();
    let (port, mac) = (bed.port(NAME), bed.server(NAME).planned.boot_mac().to_string());
    let forced = bed.lab.fabric.force_port(&port, network).expect("the port");
    bed.register(NAME).await;
    at_once(&mut bed, &mac, &port.to_string()).await;
    ends_in_an_inspection_error(&mut bed, &[&mac, &port.to_string().replace("leaf-1/", "")]).await;
    drop(forced);
    bed.until_state(NAME, 2 * RECOVERS, "available").await;
    bed.end().await;
}

/// The MAC, the port and the network are told long before the deadline.
async fn at_once(bed: &mut Bed, mac: &str, port: &str) {
    let (switch, port) = port.split_once('/').expect("SWITCH/PORT");
    let words = [mac, switch, port, "provisioning"];
    let host = bed
        .until(HOST, NAME, 15, "reported", |h| {
            let said = text(&condition(h, "Progressing")["message"]);
            words.iter().all(|word| said.contains(word))
        })
        .await;
    assert_eq!(host["status"]["provisioning"]["state"], "inspecting");
    assert!(
        no_error(&host),
        "it is no error before the deadline: {}",
        host["status"]
    );
    let note = bed.until_event(NAME, 1, "NetworkMismatch", &words).await;
    assert!(note.len() < 500, "{note}");
}

async fn ends_in_an_inspection_error(bed: &mut Bed, words: &[&str]) {
    let host = bed
        .until(HOST, NAME, 90, "the deadline", |h| {
            fails(h, "inspection error", words)
        })
        .await;
    assert_eq!(host["status"]["operationalStatus"], "error");
    assert!(
        text(&host["status"]["errorMessage"]).contains("within 60 s"),
        "{}",
        host["status"]
    );
    bed.until_event(NAME, 1, "InspectionError", words).await;
}

#[tokio::test(start_paused = true)]
async fn a_port_in_another_network_is_told() {
    wrong_vlan(Some("services")).await;
}

#[tokio::test(start_paused = true)]
async fn a_port_in_no_network_is_told() {
    wrong_vlan(None).await;
}

/// The cable ends at a port that the inventory does not name, in no network. All ports of the inventory are as they
/// should be, so it is the missing DISCOVER that tells.
#[tokio::test(start_paused = true)]
async fn a_wrong_cable_ends_in_an_inspection_error() {
    let mut plan = plan(1);
    plan.hosts[0].miscabled = true;
    let mut bed = bed(plan).await;
    bed.control();
    bed.register(NAME).await;
    let mac = bed.server(NAME).planned.boot_mac().to_string();
    ends_in_an_inspection_error(&mut bed, &[&mac, "DISCOVER"]).await;
    bed.end().await;
}

async fn ready_for_claims(bed: &mut Bed) {
    bed.control();
    bed.register(NAME).await;
    bed.until_state(NAME, 60, "available").await;
    for file in ["machine-objects.yaml", "node-provider.yaml"] {
        bed.apply_example(file).await;
    }
}

async fn image(bed: &Bed, properties: Value) {
    bed.merge(IMAGE, "ubuntu-noble", json!({"spec": {"properties": properties}}))
        .await;
}

const URL: &str = "metal3.vcluster.com/image-url";
const CHECKSUM: &str = "metal3.vcluster.com/image-checksum";
const RIGHT_URL: &str = "https://cloud-images.ubuntu.com/noble/current/noble-server-cloudimg-amd64.img";
const SUMS: &str = "https://cloud-images.ubuntu.com/noble/current/SHA256SUMS";

/// A bad image: the error is the host's and its claim's, the server was not touched, and a claim on the corrected
/// image gets it.
async fn bad_image(properties: Value, words: &[&str]) {
    let mut bed = bed(plan(1)).await;
    ready_for_claims(&mut bed).await;
    let boots = bed.server(NAME).host.status().borrow().boots;
    image(&bed, properties).await;
    bed.apply_example("machine/machine.yaml").await;
    let host = bed
        .until(HOST, NAME, 60, "a bad image", |h| {
            fails(h, "provisioning error", words)
        })
        .await;
    assert_eq!(host["status"]["provisioning"]["state"], "provisioning");
    let ready = condition(&host, "Ready");
    assert_eq!(ready["reason"], "Error", "{ready}");
    told(ready, words);
    bed.until_event(NAME, 1, "ProvisioningError", words).await;
    let claim = bed
        .until(CLAIM, "machine-1", 5, "Failed", |c| {
            c["status"]["phase"] == "Failed"
        })
        .await;
    told(condition(&claim, "Provisioned"), words);
    assert_eq!(
        bed.server(NAME).host.status().borrow().boots,
        boots,
        "it was switched on for nothing"
    );

    image(&bed, json!({URL: RIGHT_URL, CHECKSUM: SUMS})).await;
    bed.merge(
        HOST,
        NAME,
        json!({"spec": {"image": {"url": RIGHT_URL, "checksum": SUMS}}}),
    )
    .await;
    bed.until_state(NAME, RECOVERS, "provisioned").await;
    bed.until(CLAIM, "machine-1", 10, "is Ready", |c| is_true(c, "Ready"))
        .await;
    bed.delete(CLAIM, "machine-1").await;
    bed.until_gone(CLAIM, "machine-1", 60).await;
    bed.until_state(NAME, RECOVERS, "available").await;
    bed.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_is_not_there() {
    let url = "https://cloud-images.ubuntu.com/noble/current/oops.img";
    bad_image(json!({URL: url, CHECKSUM: "0".repeat(64)}), &[url, "404"]).await;
}

#[tokio::test(start_paused = true)]
async fn an_image_with_another_checksum() {
    let wrong = "1234567890abcdef".repeat(4);
    bad_image(json!({CHECKSUM: wrong}), &["checksum", &wrong]).await;
}

/// A bad image can also be given up: the claim goes, and the host is as it was.
#[tokio::test(start_paused = true)]
async fn a_claim_with_a_bad_image_can_go() {
    let mut bed = bed(plan(1)).await;
    ready_for_claims(&mut bed).await;
    image(&bed, json!({URL: "https://cloud-images.ubuntu.com/oops.img"})).await;
    bed.apply_example("machine/machine.yaml").await;
    bed.until(HOST, NAME, 60, "a bad image", |h| {
        fails(h, "provisioning error", &["oops.img"])
    })
    .await;
    bed.delete(CLAIM, "machine-1").await;
    bed.until_gone(CLAIM, "machine-1", 60).await;
    bed.until_state(NAME, RECOVERS, "available").await;
    bed.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_no_type_fits() {
    let mut bed = bed(plan(1)).await;
    ready_for_claims(&mut bed).await;
    let big = crate::harness::example("machine/machine.yaml").replace("cpu: \"2\"", "cpu: \"2000\"");
    bed.apply(&big).await;
    let claim = bed
        .until(CLAIM, "machine-1", 10, "nothing fits", |c| {
            condition(c, "Scheduled")["reason"] == "NoNodeTypeFits"
        })
        .await;
    let scheduled = condition(&claim, "Scheduled");
    assert_eq!(scheduled["status"], "False", "{scheduled}");
    let said = text(&scheduled["message"]);
    assert!(
        said.contains("no NodeType fits") && (said.contains("2k") || said.contains("2000")),
        "{said}"
    );
    told(scheduled, &["vm: ", "Change the claim"]);
    bed.until_event("machine-1", 1, "NoNodeTypeFits", &["no NodeType fits", "vm: "])
        .await;
    let host = bed.get(HOST, NAME).await.expect("the host");
    assert!(host["spec"]["consumerRef"].is_null(), "{host}");
    bed.merge(
        CLAIM,
        "machine-1",
        json!({"spec": {"desiredCapacity": {"cpu": "2"}}}),
    )
    .await;
    bed.until(CLAIM, "machine-1", 60, "is Ready", |c| is_true(c, "Ready"))
        .await;
    bed.end().await;
}

/// All hosts are taken: told, and over when one comes back.
#[tokio::test(start_paused = true)]
async fn a_claim_that_finds_no_free_host() {
    let mut bed = bed(plan(1)).await;
    ready_for_claims(&mut bed).await;
    bed.apply_example("machine/machine.yaml").await;
    bed.until(CLAIM, "machine-1", 60, "is Ready", |c| is_true(c, "Ready"))
        .await;
    let second = crate::harness::example("machine/machine.yaml").replace("machine-1", "machine-2");
    bed.apply(&second).await;
    let claim = bed
        .until(CLAIM, "machine-2", 10, "no host", |c| {
            condition(c, "Scheduled")["reason"] == "NoCapacity"
        })
        .await;
    told(condition(&claim, "Scheduled"), &["vm: ", "Register more"]);
    bed.until_event("machine-2", 1, "NoCapacity", &["vm: "]).await;
    bed.delete(CLAIM, "machine-1").await;
    bed.until(CLAIM, "machine-2", 120, "is Ready", |c| is_true(c, "Ready"))
        .await;
    bed.end().await;
}

/// A rotated password: the Secret is asked for again only when it changed, and the tenant's machine runs on.
#[tokio::test(start_paused = true)]
async fn a_rotated_password_does_not_stop_a_machine() {
    let mut bed = bed(plan(1)).await;
    ready_for_claims(&mut bed).await;
    bed.apply_example("machine/machine.yaml").await;
    bed.until(CLAIM, "machine-1", 60, "is Ready", |c| is_true(c, "Ready"))
        .await;
    let refusing = bed
        .server(NAME)
        .bmc
        .fault(Rule::always(Effect::RefuseCredentials));
    let words = ["bare-metal-1-bmc"];
    bed.until(HOST, NAME, 120, "refused", |h| {
        fails(h, "provisioned registration error", &words)
    })
    .await;
    bed.until_event(NAME, 1, "ProvisionedRegistrationError", &words)
        .await;
    let host = bed.get(HOST, NAME).await.expect("the host");
    assert_eq!(host["status"]["provisioning"]["state"], "provisioned");
    drop(refusing);
    bed.merge(
        SECRET,
        "bare-metal-1-bmc",
        json!({"metadata": {"annotations": {"rotated": "yes"}}}),
    )
    .await;
    bed.until_state(NAME, RECOVERS, "provisioned").await;
    bed.end().await;
}

/// One lost answer is no reason to say anything.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_of_the_bmc_is_nothing() {
    let mut bed = bed(plan(1)).await;
    bed.control();
    let lost = Rule::always(Effect::AppliedButAnswers(http::StatusCode::INTERNAL_SERVER_ERROR));
    let _lost = bed
        .server(NAME)
        .bmc
        .fault(lost.on(Method::POST, "/redfish/v1/Systems").times(1));
    bed.register(NAME).await;
    bed.until_state(NAME, 60, "available").await;
    let warnings: Vec<_> = bed
        .events(NAME)
        .await
        .into_iter()
        .filter(|(r, _)| r.contains("Error"))
        .collect();
    assert!(warnings.is_empty(), "{warnings:?}");
    bed.end().await;
}
