//! Certificate requests: kubelets' client certificates are approved by rule, approved requests are signed.

use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::follow::Follower;
use super::system;
use crate::auth::{Attributes, Identity, authorize};
use crate::builtin::stamp_conditions;
use crate::pki::{SIGNED_SECONDS, SignRequest};
use crate::server::Inner;
use crate::store::Obj;

const STORAGE: &str = "certificates.k8s.io/certificatesigningrequests";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";

pub(super) async fn run(inner: &Arc<Inner>) {
    let mut follower = Follower::new(inner, STORAGE);
    loop {
        for changed in follower.changes(inner).into_iter().filter(|c| !c.deleted) {
            approve(inner, &changed.object);
            sign(inner, &changed.object);
        }
        follower.wait().await;
    }
}

/// What the request asks to be.
struct Subject {
    pem: String,
    user: String,
    groups: Vec<String>,
    /// Names in the SAN extension or elsewhere: a client certificate has none.
    has_sans: bool,
}

fn subject(csr: &Value) -> Option<Subject> {
    let pem = BASE64_STANDARD.decode(csr["spec"]["request"].as_str()?).ok()?;
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    let (_, request) = X509CertificationRequest::from_der(&block.contents).ok()?;
    request.verify_signature().ok()?;
    let name = &request.certification_request_info.subject;
    let user = name.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = name
        .iter_organization()
        .filter_map(|o| o.as_str().ok().map(str::to_owned))
        .collect();
    let mut extensions = request.requested_extensions().into_iter().flatten();
    let has_sans = extensions.any(|e| {
        matches!(
            e,
            x509_parser::extensions::ParsedExtension::SubjectAlternativeName(_)
        )
    });
    Some(Subject {
        pem: String::from_utf8(pem).ok()?,
        user,
        groups,
        has_sans,
    })
}

fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn has_condition(csr: &Value, kind: &str) -> bool {
    csr["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|c| c["type"] == kind)
}

fn is_kubelet(subject: &Subject) -> bool {
    subject.user.starts_with("system:node:") && subject.groups == ["system:nodes"]
}

fn approve(inner: &Inner, object: &Obj) {
    let csr = &object.value;
    if has_condition(csr, "Approved")
        || has_condition(csr, "Denied")
        || csr["spec"]["signerName"] != KUBELET_CLIENT
    {
        return;
    }
    let Some(subject) = subject(csr) else { return };
    let mut usages = strings(&csr["spec"]["usages"]);
    usages.sort_unstable();
    let usual = usages == ["client auth", "digital signature"]
        || usages == ["client auth", "digital signature", "key encipherment"];
    if !is_kubelet(&subject) || subject.has_sans || !usual {
        return;
    }
    let requester = Identity {
        user: csr["spec"]["username"].as_str().unwrap_or_default().to_owned(),
        groups: strings(&csr["spec"]["groups"])
            .into_iter()
            .map(str::to_owned)
            .collect(),
        ..Identity::default()
    };
    let may = |subresource: &str| {
        let ask = Attributes {
            verb: "create".into(),
            group: "certificates.k8s.io".into(),
            resource: "certificatesigningrequests".into(),
            subresource: subresource.into(),
            is_resource: true,
            ..Attributes::default()
        };
        authorize(inner, &requester, &ask).allowed
    };
    let message = if subject.user == requester.user && may("selfnodeclient") {
        "Auto approving self kubelet client certificate after SubjectAccessReview."
    } else if may("nodeclient") {
        "Auto approving kubelet client certificate after SubjectAccessReview."
    } else {
        return;
    };
    tracing::info!(csr = object.name(), "approved");
    add_condition(
        inner,
        object,
        json!({"type": "Approved", "status": "True", "reason": "AutoApproved", "message": message}),
    );
}

fn add_condition(inner: &Inner, object: &Obj, condition: Value) {
    system::update(inner, STORAGE, &object.key(), |value| {
        if has_condition(value, condition["type"].as_str().unwrap_or_default()) {
            return false;
        }
        let mut conditions = value["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        conditions.push(condition.clone());
        value["status"]["conditions"] = conditions.into();
        stamp_conditions(&mut value["status"]["conditions"], inner.now());
        true
    });
}

/// Why a signer of ours refuses; nothing for a signer that is not ours.
fn refusal(signer: &str, subject: &Subject, usages: &[&str]) -> Option<String> {
    if subject.groups.len() > 1 {
        return Some(
            "sim-kube signs requests with at most one organization; ask for one group, or use a token".into(),
        );
    }
    match signer {
        KUBELET_CLIENT if !is_kubelet(subject) => {
            Some("subject organization is not system:nodes, or subject common name does not begin with system:node:".into())
        }
        KUBELET_SERVING if !is_kubelet(subject) => Some("subject is not a node's".into()),
        KUBELET_SERVING if !usages.contains(&"server auth") => Some("usages do not include server auth".into()),
        CLIENT if subject.groups.iter().any(|g| g == "system:masters") => Some("use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed".into()),
        CLIENT | KUBELET_CLIENT if !usages.contains(&"client auth") => Some("usages do not include client auth".into()),
        _ => None,
    }
}

fn sign(inner: &Inner, object: &Obj) {
    // Approval may just have changed it.
    let Some(object) = inner.store.get(STORAGE, "", object.name()) else {
        return;
    };
    let csr = &object.value;
    let signer = csr["spec"]["signerName"].as_str().unwrap_or_default();
    let ours = matches!(signer, KUBELET_CLIENT | CLIENT | KUBELET_SERVING);
    let pending =
        has_condition(csr, "Approved") && !has_condition(csr, "Denied") && !has_condition(csr, "Failed");
    if !ours || !pending || csr["status"].get("certificate").is_some() {
        return;
    }
    let fail = |message: &str| {
        add_condition(
            inner,
            &object,
            json!({"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": message}),
        );
    };
    let Some(subject) = subject(csr) else {
        return fail("the request is no PEM certificate request with a good signature");
    };
    let usages = strings(&csr["spec"]["usages"]);
    if let Some(message) = refusal(signer, &subject, &usages) {
        return fail(&message);
    }
    let asked = csr["spec"]["expirationSeconds"]
        .as_i64()
        .unwrap_or(SIGNED_SECONDS);
    let ask = SignRequest {
        request_pem: &subject.pem,
        usages: &usages,
        now: inner.now(),
        seconds: asked.clamp(600, SIGNED_SECONDS),
    };
    match inner.pki.sign_request(&ask, &inner.random) {
        Ok(pem) => {
            tracing::info!(csr = object.name(), user = subject.user, "signed");
            system::update(inner, STORAGE, &object.key(), |value| {
                value["status"]["certificate"] = BASE64_STANDARD.encode(&pem).into();
                true
            });
        }
        Err(error) => fail(&error.to_string()),
    }
}
