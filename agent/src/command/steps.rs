//! The steps that our hardware manager offers (as ironic-python-agent does), and their execution.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use steelyard_agent_api::{ImageInfo, Node, Step, StepKind, StepList};

use super::params::Params;
use crate::failure::Failure;
use crate::job::{EraseJob, Extent, ImageJob, Job, Reporting};

const MANAGER: &str = "SteelyardHardwareManager";
/// Changes when steps or their arguments change; a service that cached older steps reads them again.
const VERSION: &str = "1.0";
const ERASE: &str = "erase_devices";
const ERASE_METADATA: &str = "erase_devices_metadata";
const WRITE_IMAGE: &str = "write_image";

/// `hardware_manager_version`.
pub(crate) fn versions() -> BTreeMap<String, String> {
    [(MANAGER.to_owned(), VERSION.to_owned())].into()
}

/// Name and version for the inspection payload.
pub(crate) fn manager() -> (&'static str, &'static str) {
    (MANAGER, VERSION)
}

fn step(name: &str, priority: i64, argsinfo: Option<Value>) -> Step {
    Step {
        step: name.to_owned(),
        interface: "deploy".to_owned(),
        priority,
        reboot_requested: false,
        abortable: name == ERASE || name == ERASE_METADATA,
        argsinfo,
        ..Step::default()
    }
}

/// Answer of `get_deploy_steps` and `get_clean_steps`.
pub(crate) fn list(kind: StepKind) -> StepList {
    let argument = |text: &str, required: bool| json!({"description": text, "required": required});
    let steps = match kind {
        StepKind::Clean => {
            let verify = argument(
                "sample (default) reads back a sample of each disk, full reads all of it",
                false,
            );
            vec![
                step(ERASE_METADATA, 99, None),
                step(ERASE, 10, Some(json!({"verify": verify}))),
            ]
        }
        StepKind::Deploy => vec![
            step(ERASE_METADATA, 0, None),
            step(
                WRITE_IMAGE,
                0,
                Some(json!({
                    "image_info": argument("what to write: id, urls, checksum", true),
                    "configdrive": argument("base64 of a gzip of an image labelled config-2, or its URL", false),
                })),
            ),
        ],
    };
    let steps = Some([(MANAGER.to_owned(), steps)].into());
    let (deploy_steps, clean_steps) = match kind {
        StepKind::Deploy => (steps, None),
        StepKind::Clean => (None, steps),
    };
    StepList {
        deploy_steps,
        clean_steps,
        hardware_manager_version: versions(),
    }
}

/// Refuses a step that was chosen from another list than ours.
pub(crate) fn check_version(asked: Option<BTreeMap<String, String>>) -> Result<(), Failure> {
    match asked {
        None => Ok(()),
        Some(asked) if asked.is_empty() || asked == versions() => Ok(()),
        Some(asked) => Err(Failure::VersionMismatch {
            asked: format!("{asked:?}"),
            have: format!("{:?}", versions()),
        }),
    }
}

/// The job behind a step.
pub(crate) fn start(
    kind: StepKind,
    step: &Value,
    node: Option<Node>,
    md5_enabled: bool,
) -> Result<Box<dyn Job>, Failure> {
    let text = |key: &str| step.get(key).and_then(Value::as_str).unwrap_or_default();
    let (name, interface) = (text("step"), text("interface"));
    let args = match step.get("args") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(args)) => args.clone(),
        Some(_) => {
            return Err(Failure::InvalidParams(format!(
                "step {name}: args is not an object"
            )));
        }
    };
    let mut params = Params::new(name, args);
    match (kind, interface, name) {
        (StepKind::Clean, "deploy", ERASE) => {
            let verify: Option<String> = params.optional("verify")?;
            params.end()?;
            let extent = match verify.as_deref() {
                None | Some("sample") => Extent::Sample,
                Some("full") => Extent::Full,
                Some(other) => {
                    return Err(Failure::InvalidParams(format!(
                        "{ERASE}: verify is {other:?}, not sample or full"
                    )));
                }
            };
            Ok(Box::new(EraseJob::everything(node, extent)))
        }
        (_, "deploy", ERASE_METADATA) => {
            params.end()?;
            Ok(Box::new(EraseJob::metadata(node)))
        }
        (StepKind::Deploy, "deploy", WRITE_IMAGE) => {
            let image: ImageInfo = params.required("image_info")?;
            let configdrive: Option<String> = params.optional("configdrive")?;
            params.end()?;
            check_image(&image)?;
            Ok(Box::new(ImageJob::new(
                image,
                configdrive,
                node,
                md5_enabled,
                Reporting::Step,
            )?))
        }
        _ => Err(Failure::UnknownStep {
            kind: kind.word(),
            step: format!("{interface}.{name}"),
        }),
    }
}

/// `_validate_image_info` of IPA.
pub(crate) fn check_image(image: &ImageInfo) -> Result<(), Failure> {
    let missing = if image.id.is_empty() {
        "id"
    } else if image.urls.is_empty() {
        "urls"
    } else if image.checksum.is_none() && (image.os_hash_algo.is_none() || image.os_hash_value.is_none()) {
        "checksum (or os_hash_algo and os_hash_value)"
    } else {
        return Ok(());
    };
    Err(Failure::InvalidParams(format!("image_info is missing {missing}")))
}
