//! An authenticated user, as `authentication.k8s.io` describes one.

use std::collections::BTreeMap;

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

pub(crate) const ANONYMOUS: &str = "system:anonymous";
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// The user behind a request. Attached as a request extension by whoever verified them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    pub user: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// A user with these groups and `system:authenticated`.
    pub fn new<S: AsRef<str>>(user: &str, groups: &[S]) -> Identity {
        let groups = groups.iter().map(|g| g.as_ref().to_owned()).collect();
        Identity {
            user: user.to_owned(),
            groups,
            ..Identity::default()
        }
        .authenticated()
    }

    pub(crate) fn anonymous() -> Identity {
        Identity {
            user: ANONYMOUS.into(),
            groups: vec![UNAUTHENTICATED.into()],
            ..Identity::default()
        }
    }

    pub(crate) fn authenticated(mut self) -> Identity {
        let group = if self.user == ANONYMOUS {
            UNAUTHENTICATED
        } else {
            AUTHENTICATED
        };
        if !self
            .groups
            .iter()
            .any(|g| g == AUTHENTICATED || g == UNAUTHENTICATED)
        {
            self.groups.push(group.to_owned());
        }
        self
    }

    pub(crate) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    pub(crate) fn with_extra(mut self, key: &str, value: String) -> Identity {
        self.extra.entry(key.to_owned()).or_default().push(value);
        self
    }

    pub(crate) fn credential(self, id: String) -> Identity {
        self.with_extra(CREDENTIAL_ID, id)
    }

    /// The `userInfo` of reviews and of admission.
    pub(crate) fn to_value(&self) -> serde_json::Value {
        let mut info = serde_json::Map::new();
        info.insert("username".into(), self.user.clone().into());
        if !self.uid.is_empty() {
            info.insert("uid".into(), self.uid.clone().into());
        }
        info.insert("groups".into(), self.groups.clone().into());
        if !self.extra.is_empty() {
            let extra = self
                .extra
                .iter()
                .map(|(k, v)| (k.clone(), v.clone().into()))
                .collect();
            info.insert("extra".into(), serde_json::Value::Object(extra));
        }
        info.into()
    }
}

/// The chain was verified by rustls; here its leaf becomes a user: CN, and each O a group.
pub(crate) fn from_certificate(certificate: &CertificateDer<'_>) -> Result<Identity, String> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|e| format!("client certificate: {e}"))?;
    let subject = parsed.subject();
    let text =
        |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| attribute.as_str().ok().map(str::to_owned);
    let user = subject
        .iter_common_name()
        .next()
        .and_then(text)
        .unwrap_or_default();
    if user.is_empty() {
        return Err("client certificate has no common name, so it names no user".into());
    }
    let groups: Vec<String> = subject.iter_organization().filter_map(text).collect();
    let mut id = String::from("X509SHA256=");
    for byte in Sha256::digest(certificate.as_ref()) {
        id.push_str(&format!("{byte:02x}"));
    }
    Ok(Identity::new(&user, &groups).credential(id))
}
