//! TaskService. No operation of this service outlasts its request yet, so there is never a task to list; clients probe
//! the collection to see whether the service is alive.

use jiff::Timestamp;
use serde::Serialize;

use super::schemas;
use crate::redfish::document::{Collection, Document, ENABLED, Link, Status, link};
use crate::redfish::route::{MANAGER, Route, Scene};

const SERVICE: &str = "/redfish/v1/TaskService";
const TASKS: &str = "/redfish/v1/TaskService/Tasks";

pub(super) const ROUTES: &[Route] = &[
    Route::get(SERVICE, MANAGER, service),
    Route::get(TASKS, MANAGER, |_, _| {
        Some(Collection::of(schemas::TASKS, TASKS, "Tasks", [""; 0]))
    }),
];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct TaskService {
    id: &'static str,
    name: &'static str,
    date_time: Timestamp,
    service_enabled: bool,
    completed_task_over_write_policy: &'static str,
    life_cycle_event_on_task_state_change: bool,
    status: Status,
    tasks: Link,
}

fn service(scene: &Scene<'_>, _: &[String]) -> Option<Document> {
    let resource = TaskService {
        id: "TaskService",
        name: "Task Service",
        date_time: super::manager::whole_seconds(scene.bmc.clock(scene.now)),
        service_enabled: true,
        completed_task_over_write_policy: "Oldest",
        life_cycle_event_on_task_state_change: false,
        status: ENABLED,
        tasks: link(TASKS),
    };
    Some(Document::new(schemas::TASK_SERVICE, SERVICE, &resource).volatile(&["DateTime"]))
}
