//! Join tickets: one bootstrap token per claim, kept as a Secret in the tenant's own cluster, which checks it.
//! We keep no copy: after a restart the tenant's cluster still has it.

use super::{TenantCluster, TenantError};
use crate::{key::Key, secret::Secret, world::Dice};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString, api::core::v1::Secret as KubeSecret, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use std::collections::BTreeMap;

const NAMESPACE: &str = "kube-system";
const LABEL_TOKEN: &str = "vcluster.loft.sh/token";
const LABEL_NODE_TYPE: &str = "vcluster.loft.sh/token-node-type";
const LABEL_CLAIM: &str = "vcluster.loft.sh/token-node-claim-name";
const LABEL_CLAIM_NAMESPACE: &str = "vcluster.loft.sh/token-node-claim-namespace";
/// kubeadm's group: what it may do is written in the tenant's RBAC.
const GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";

/// A token that is good for joining as one claim's node.
pub struct ClaimTicket {
    pub id: String,
    pub secret: Secret,
    pub claim: Key,
}

impl ClaimTicket {
    /// `id.secret`, as nodes present it.
    pub fn token(&self) -> Secret {
        Secret::new(format!("{}.{}", self.id, self.secret.reveal()))
    }
}

/// Where the tickets of one tenant are issued and withdrawn.
pub struct TicketOffice<'a> {
    cluster: &'a TenantCluster,
}

impl<'a> TicketOffice<'a> {
    pub fn new(cluster: &'a TenantCluster) -> Self {
        TicketOffice { cluster }
    }

    fn api(&self) -> Api<KubeSecret> {
        Api::namespaced(self.cluster.client.clone(), NAMESPACE)
    }

    /// The claim's ticket: the one that there is, if it is good for half of `validity` or more, or a new one.
    pub async fn issue(
        &self,
        claim: &Key,
        now: Timestamp,
        validity: SignedDuration,
        dice: &Dice,
    ) -> Result<ClaimTicket, TenantError> {
        let good_until = now.saturating_add(validity / 2).unwrap_or(Timestamp::MAX);
        for secret in self.of_claim(claim).await? {
            if let Some((ticket, expiration)) = parse(&secret)
                && expiration > good_until
            {
                return Ok(ticket);
            }
        }
        let ticket = ClaimTicket {
            id: dice.token(6),
            secret: Secret::new(dice.token(16)),
            claim: claim.clone(),
        };
        let until = now.saturating_add(validity).unwrap_or(Timestamp::MAX);
        self.api()
            .create(&PostParams::default(), &token_secret(&ticket, until))
            .await?;
        Ok(ticket)
    }

    /// Deletes all tickets of a claim.
    pub async fn withdraw(&self, claim: &Key) -> Result<(), TenantError> {
        for secret in self.of_claim(claim).await? {
            match self
                .api()
                .delete(&secret.name_any(), &DeleteParams::default())
                .await
            {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The ticket with this id, if it has not expired.
    pub async fn find(&self, id: &str, now: Timestamp) -> Result<Option<ClaimTicket>, TenantError> {
        let found = self.api().get_opt(&format!("bootstrap-token-{id}")).await?;
        Ok(found
            .as_ref()
            .and_then(parse)
            .filter(|(_, until)| *until > now)
            .map(|(ticket, _)| ticket))
    }

    async fn of_claim(&self, claim: &Key) -> Result<Vec<KubeSecret>, TenantError> {
        let labels = format!(
            "{LABEL_CLAIM}={},{LABEL_CLAIM_NAMESPACE}={}",
            claim.name, claim.namespace
        );
        Ok(self
            .api()
            .list(&ListParams::default().labels(&labels))
            .await?
            .items)
    }
}

fn token_secret(ticket: &ClaimTicket, until: Timestamp) -> KubeSecret {
    let text = |s: &str| s.to_owned();
    KubeSecret {
        metadata: ObjectMeta {
            name: Some(format!("bootstrap-token-{}", ticket.id)),
            namespace: Some(NAMESPACE.into()),
            labels: Some(BTreeMap::from([
                (text(LABEL_TOKEN), text("true")),
                (text(LABEL_NODE_TYPE), text("worker")),
                (text(LABEL_CLAIM), ticket.claim.name.clone()),
                (text(LABEL_CLAIM_NAMESPACE), ticket.claim.namespace.clone()),
            ])),
            ..ObjectMeta::default()
        },
        type_: Some("bootstrap.kubernetes.io/token".into()),
        string_data: Some(BTreeMap::from([
            (text("token-id"), ticket.id.clone()),
            (text("token-secret"), ticket.secret.reveal().to_owned()),
            // kubeadm reads times without fractions.
            (
                text("expiration"),
                until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            ),
            (text("usage-bootstrap-authentication"), text("true")),
            (text("usage-bootstrap-signing"), text("true")),
            (text("auth-extra-groups"), text(GROUP)),
            (
                text("description"),
                format!("Steelyard: node of claim {}", ticket.claim),
            ),
        ])),
        ..KubeSecret::default()
    }
}

fn parse(secret: &KubeSecret) -> Option<(ClaimTicket, Timestamp)> {
    let data = secret.data.as_ref()?;
    let text = |key: &str| {
        data.get(key)
            .and_then(|ByteString(b)| String::from_utf8(b.clone()).ok())
    };
    let label = |key: &str| secret.labels().get(key).cloned();
    let ticket = ClaimTicket {
        id: text("token-id")?,
        secret: Secret::new(text("token-secret")?),
        claim: Key::new(label(LABEL_CLAIM_NAMESPACE)?, label(LABEL_CLAIM)?),
    };
    Some((ticket, text("expiration")?.parse().ok()?))
}
