//! Sites, tenants and VPCs.

use axum::{Router, extract::State, routing::get};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Id, Netris,
    envelope::{Answer, Failure, Reply, body},
    list,
    wire::{Thing, named},
};
use crate::{fabric::Fabric, model::Vpc};

pub(super) fn routes() -> Router<Netris> {
    Router::new()
        .route("/api/v2/sites", list(sites))
        .route("/api/sites", list(sites))
        .route("/api/tenants", list(tenants))
        .route("/api/v2/vpc", list(vpcs).post(create))
        .route("/api/v2/vpc/{id}", get(read).delete(delete))
}

fn sites(fabric: &Fabric) -> Value {
    json!([named(&fabric.intended.site)])
}

fn tenants(fabric: &Fabric) -> Value {
    fabric
        .intended
        .tenants
        .iter()
        .map(|(id, name)| json!({ "id": id, "name": name }))
        .collect()
}

fn vpcs(fabric: &Fabric) -> Value {
    fabric.intended.vpcs.values().map(view).collect()
}

fn view(vpc: &Vpc) -> Value {
    json!({
        "id": vpc.id,
        "name": vpc.name,
        "adminTenant": named(&vpc.admin),
        "guestTenant": [],
        "tags": vpc.tags,
        "isDefault": vpc.is_default,
        "createdDate": vpc.created,
    })
}

async fn read(State(netris): State<Netris>, Id(id): Id) -> Reply {
    let found = netris.read(|fabric| fabric.intended.vpcs.get(&id).map(view));
    found.map(Answer::new).ok_or_else(|| Failure::missing("VPC", id))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewVpc {
    name: String,
    admin_tenant: Thing,
    #[serde(default)]
    tags: Vec<String>,
}

async fn create(State(netris): State<Netris>, bytes: Bytes) -> Reply {
    let new: NewVpc = body(&bytes)?;
    let id = netris.edit(|model, now| model.create_vpc(&new.name, &new.admin_tenant.0, new.tags, now))?;
    Ok(Answer::created(id))
}

async fn delete(State(netris): State<Netris>, Id(id): Id) -> Reply {
    netris.edit(|model, _| model.delete_vpc(id))?;
    Ok(Answer::done("Deleted"))
}
