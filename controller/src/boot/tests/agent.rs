//! Jobs, given to an agent that behaves as ironic-python-agent does.

use super::*;

const OTHER_SHA: &str = "0101010101010101010101010101010101010101010101010101010101010101";

/// An agent of our own making: one command at a time, as ironic-python-agent runs them.
#[derive(Default)]
struct FakeAgent {
    commands: Mutex<Vec<Value>>,
    posted: Mutex<Vec<Value>>,
    /// Loses the answers to POSTs of steps: the command runs, nobody hears of it.
    deaf: std::sync::atomic::AtomicBool,
}

impl FakeAgent {
    async fn start(self: &Arc<Self>, site: &Site, token: &str) -> (Running, String) {
        let (tls, pem) = certificate(HOST);
        let (agent, token) = (self.clone(), token.to_owned());
        let handler: Handler = Arc::new(move |request| agent.answer(&token, request));
        (web(&site.host(), 9999, Some(tls), handler).await, pem)
    }

    fn answer(&self, token: &str, request: Request<Bytes>) -> Response<Bytes> {
        let reply = |status: u16, body: Value| {
            Response::builder()
                .status(status)
                .body(body.to_string().into())
                .unwrap()
        };
        assert_eq!(request.uri().path(), "/v1/commands/");
        if !request
            .uri()
            .query()
            .unwrap_or_default()
            .contains(&format!("agent_token={token}"))
        {
            return reply(
                401,
                json!({"faultcode": "Client", "faultstring": "401 Unauthorized: Token invalid."}),
            );
        }
        let mut commands = self.commands.lock().unwrap();
        if request.method() == http::Method::GET {
            return reply(200, json!({ "commands": *commands }));
        }
        if commands
            .last()
            .is_some_and(|last| last["command_status"] == "RUNNING")
        {
            return reply(
                409,
                json!({"faultcode": "Client", "faultstring": "Agent is busy"}),
            );
        }
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        let name = body["name"]
            .as_str()
            .unwrap()
            .split_once('.')
            .unwrap()
            .1
            .to_owned();
        self.posted.lock().unwrap().push(body);
        let step = |kind: &str, name: &str| {
            json!({kind: {"M": [{"step": name, "interface": "deploy", "priority": 10}]},
            "hardware_manager_version": {"M": "1.0"}})
        };
        let (status, result) = match name.as_str() {
            "get_clean_steps" => ("SUCCEEDED", step("clean_steps", "erase_devices")),
            "get_deploy_steps" => ("SUCCEEDED", step("deploy_steps", "write_image")),
            "sync" => ("SUCCEEDED", Value::Null),
            _ => ("RUNNING", Value::Null),
        };
        let command = json!({"id": commands.len().to_string(), "command_name": name, "command_status": status,
            "command_error": null, "command_result": result});
        commands.push(command.clone());
        if status == "RUNNING" && self.deaf.load(Ordering::SeqCst) {
            return reply(500, json!({"faultcode": "Server", "faultstring": "lost"}));
        }
        reply(200, command)
    }

    fn finish(&self, status: &str, error: Value, result: Value) {
        let mut commands = self.commands.lock().unwrap();
        let last = commands.last_mut().unwrap();
        last["command_status"] = json!(status);
        last["command_error"] = error;
        last["command_result"] = result;
    }

    fn posted(&self, name: &str) -> Vec<Value> {
        self.posted
            .lock()
            .unwrap()
            .iter()
            .filter(|body| body["name"] == name)
            .cloned()
            .collect()
    }
}

fn task(operation: &str, job: AgentJob, site: &Site) -> AgentTask {
    AgentTask {
        operation: operation.into(),
        job,
        deadline: site.boot.0.now() + SignedDuration::from_secs(60),
    }
}

fn erase() -> AgentJob {
    AgentJob::Erase { metadata_only: false }
}

/// A site with an agent that has sent its first heartbeat.
async fn with_agent() -> (Site, Arc<FakeAgent>, Running) {
    let site = Site::new().await;
    site.boot
        .publish(&key(), plan("op-1", BootPurpose::Deploy))
        .unwrap();
    let error = site
        .boot
        .ensure_agent(&key(), &task("op-1", erase(), &site), Payload::default())
        .await
        .unwrap_err();
    assert!(matches!(error, AgentError::NoAgent), "{error}");
    let token = site.token().await;
    let agent = Arc::new(FakeAgent::default());
    let (running, pem) = agent.start(&site, &token).await;
    assert_eq!(
        site.beat(&token, "https://192.168.100.10:9999", &pem).await.0,
        202
    );
    (site, agent, running)
}

fn state(site: &Site) -> Option<JobState> {
    let agent = site.boot.agent(&key());
    agent
        .known()
        .and_then(|facts| facts.job.as_ref())
        .map(|job| job.state.clone())
}

#[tokio::test]
async fn an_erase_is_started_once_and_its_evidence_read() {
    let (site, agent, _running) = with_agent().await;
    let job = task("op-1", erase(), &site);
    let key = &key();
    let ensure = || site.boot.ensure_agent(key, &job, Payload::default());
    assert!(!ensure().await.unwrap().already);
    assert_eq!(state(&site), Some(JobState::Running));
    assert!(ensure().await.unwrap().already);
    site.boot.observe_agent(key).await.unwrap();
    assert_eq!(state(&site), Some(JobState::Running));
    let posted = agent.posted("clean.execute_clean_step");
    assert_eq!(posted.len(), 1);
    insta::assert_json_snapshot!(posted[0]);
    let step = posted[0]["params"]["step"].clone();
    let disk = json!({"name": "/dev/sda", "serial": "S", "size": 10, "method": "overwrite", "duration_ms": 1,
        "verification": {"expectation": "zeros", "samples": 1, "bytes_read": 5, "canaries": 1}});
    agent.finish(
        "SUCCEEDED",
        Value::Null,
        json!({"clean_result": {"disks": [disk]}, "clean_step": step}),
    );
    site.boot.observe_agent(key).await.unwrap();
    let Some(JobState::Succeeded { wiped }) = state(&site) else {
        panic!("{:?}", state(&site))
    };
    assert!(wiped[0].verified && wiped[0].verified_bytes == 5);
    // A job of another operation is another job.
    assert!(
        !site
            .boot
            .ensure_agent(key, &task("op-2", erase(), &site), Payload::default())
            .await
            .unwrap()
            .already
    );
    assert_eq!(agent.posted("clean.execute_clean_step").len(), 2);
}

#[tokio::test]
async fn a_restarted_controller_knows_the_agent_and_its_job() {
    let (site, agent, _running) = with_agent().await;
    agent.deaf.store(true, Ordering::SeqCst);
    let job = task("op-1", erase(), &site);
    // The answer is lost, and then the controller, too.
    assert!(
        site.boot
            .ensure_agent(&key(), &job, Payload::default())
            .await
            .is_err()
    );
    let (vault, wire) = (site.vault.clone(), site.wire.clone());
    drop(site);
    let site = Site::with_vault(wire, vault).await;
    site.boot
        .publish(&key(), plan("op-1", BootPurpose::Deploy))
        .unwrap();
    assert!(site.boot.agent(&key()).known().is_none(), "nothing was asked yet");
    assert!(
        site.boot
            .ensure_agent(&key(), &job, Payload::default())
            .await
            .unwrap()
            .already
    );
    assert_eq!(
        (state(&site), agent.posted("clean.execute_clean_step").len()),
        (Some(JobState::Running), 1)
    );
    agent.finish(
        "FAILED",
        json!({"type": "BlockDeviceEraseError", "message": "no", "code": 500, "details": ""}),
        Value::Null,
    );
    site.boot.observe_agent(&key()).await.unwrap();
    let want = JobState::Failed {
        kind: "BlockDeviceEraseError".into(),
        message: "no".into(),
    };
    assert_eq!(state(&site), Some(want));
    // A plan of another operation: the same Secret holds another boot's agent.
    site.boot
        .publish(&key(), plan("op-9", BootPurpose::Deploy))
        .unwrap();
    assert!(matches!(
        site.boot.observe_agent(&key()).await,
        Err(AgentError::NoAgent)
    ));
}

#[tokio::test]
async fn a_busy_agent_and_a_late_job() {
    let (site, agent, _running) = with_agent().await;
    let mut late = task("op-1", erase(), &site);
    late.deadline = site.boot.0.now();
    let error = site
        .boot
        .ensure_agent(&key(), &late, Payload::default())
        .await
        .unwrap_err();
    assert!(matches!(error, AgentError::TooLate(_)) && error.retry() == Retry::Never);
    agent
        .commands
        .lock()
        .unwrap()
        .push(json!({"id": "0", "command_name": "burnin", "command_status": "RUNNING"}));
    assert!(
        site.boot
            .ensure_agent(&key(), &task("op-1", erase(), &site), Payload::default())
            .await
            .unwrap()
            .already
    );
    assert!(agent.posted.lock().unwrap().is_empty() && state(&site).is_none());
}

#[tokio::test]
async fn an_image_is_written_from_our_cache_only_once_it_is_verified() {
    let (site, agent, _running) = with_agent().await;
    let mut disk = vec![0; 4096];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let served = Bytes::from(disk.clone());
    let upstream: Handler = Arc::new(move |_| Response::new(served.clone()));
    let _upstream = web(&site.wire.host([10, 0, 0, 1]), 80, None, upstream).await;
    let sha = <sha2::Sha256 as sha2::Digest>::digest(&disk)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect::<String>();
    let image = Image {
        url: "http://10.0.0.1/disk.img".into(),
        checksum: Some(sha.clone()),
        ..Image::default()
    };
    let job = |image: &Image| AgentJob::Write {
        image: image.clone(),
        root_device_hints: Some(steelyard_api::metal3::RootDeviceHints {
            serial_number: Some("S1".into()),
            ..Default::default()
        }),
        user_data: None,
        network_data: None,
        meta_data: None,
    };
    let write = task("op-1", job(&image), &site);
    let error = site
        .boot
        .ensure_agent(&key(), &write, Payload::default())
        .await
        .unwrap_err();
    assert!(matches!(error, AgentError::Image(_)), "{error}");
    site.images.ensure(&image);
    until("the image", || site.images.open(&sha)).await;
    assert_eq!(
        get(&site.host(), &format!("{URL}/images/{sha}")).await,
        (200, disk.into())
    );
    let host = crate::image::DriveHost {
        namespace: "n".into(),
        name: "h".into(),
        uid: "u".into(),
    };
    let drive = crate::image::ConfigDrive::build(&host, &Default::default(), Timestamp::UNIX_EPOCH).unwrap();
    let payload = Payload {
        config_drive: Some(drive.clone()),
    };
    assert!(
        !site
            .boot
            .ensure_agent(&key(), &write, payload)
            .await
            .unwrap()
            .already
    );
    let mut posted = agent.posted("deploy.execute_deploy_step")[0].clone();
    let args = &mut posted["params"]["step"]["args"];
    assert_eq!(args["configdrive"], drive.reveal());
    args["configdrive"] = json!("DRIVE");
    insta::assert_json_snapshot!(posted);
    let missing = Image {
        checksum: Some(OTHER_SHA.into()),
        ..image
    };
    site.images.ensure(&missing);
    let message = until("the failure", || match site.images.facts(&missing).known() {
        Some(steelyard_core::host::view::ImageFacts::Failed { message, .. }) => Some(message.clone()),
        _ => None,
    })
    .await;
    assert!(
        message.contains(OTHER_SHA) && message.contains(&sha) && message.contains("http://10.0.0.1/disk.img"),
        "{message}"
    );
}

#[tokio::test]
async fn power_off_flushes_first() {
    let (site, agent, _running) = with_agent().await;
    let job = task("op-1", AgentJob::PowerOff, &site);
    assert!(
        !site
            .boot
            .ensure_agent(&key(), &job, Payload::default())
            .await
            .unwrap()
            .already
    );
    let names: Vec<_> = agent
        .posted
        .lock()
        .unwrap()
        .iter()
        .map(|b| b["name"].clone())
        .collect();
    assert_eq!(names, ["standby.sync", "standby.power_off"]);
}

#[tokio::test]
async fn silence_and_impostors_are_unknown_not_failed() {
    let (site, agent, running) = with_agent().await;
    drop(running);
    assert!(site.boot.observe_agent(&key()).await.is_err());
    assert!(
        matches!(site.boot.agent(&key()).ignorance(), Some(Ignorance::Unreachable(why)) if why.contains("192.168.100.10:9999"))
    );
    // Another machine with another certificate on the same address.
    let token = site.vault.records.lock().unwrap()[&key()]
        .token
        .reveal()
        .to_owned();
    let (_running, _) = agent.start(&site, &token).await;
    let error = site.boot.observe_agent(&key()).await.unwrap_err();
    assert!(
        matches!(
            error,
            AgentError::Http(crate::http_client::HttpError::Untrusted { .. })
        ),
        "{error}"
    );
}
