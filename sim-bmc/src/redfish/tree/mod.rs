//! The resource tree: one module per branch, each with its typed resources, their builders and handlers, and its rows of
//! the route table.

mod accounts;
mod boot;
mod chassis;
mod compute;
mod manager;
mod network;
mod registries;
mod root;
pub(super) mod schemas;
mod sessions;
mod storage;
mod system;
mod tasks;
mod update;

use super::route::Route;

/// There is one system, one manager and one chassis, with the id that the lab's addresses name.
pub(super) const SYSTEM_URI: &str = "/redfish/v1/Systems/1";
pub(super) const MANAGER_URI: &str = "/redfish/v1/Managers/1";
pub(super) const CHASSIS_URI: &str = "/redfish/v1/Chassis/1";
pub(super) const SESSIONS_URI: &str = "/redfish/v1/SessionService/Sessions";
/// DSP0266 "POST (create)": posting to Members equals posting to the collection.
pub(super) const SESSION_MEMBERS_URI: &str = "/redfish/v1/SessionService/Sessions/Members";

pub(super) use accounts::account_uri;

/// Longest text that AssetTag and the like may hold.
const MAX_TEXT: usize = 128;

const BRANCHES: &[&[Route]] = &[
    root::ROUTES,
    sessions::ROUTES,
    accounts::ROUTES,
    system::ROUTES,
    boot::ROUTES,
    compute::ROUTES,
    storage::ROUTES,
    network::ROUTES,
    manager::ROUTES,
    chassis::ROUTES,
    tasks::ROUTES,
    update::ROUTES,
    registries::ROUTES,
];

/// Every row, in the order in which they are tried.
pub(super) fn routes() -> impl Iterator<Item = &'static Route> {
    BRANCHES.iter().flat_map(|branch| branch.iter())
}
