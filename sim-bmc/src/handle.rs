//! One BMC as the rest of a program holds it: engine and machine behind one lock.
//!
//! The lock is never held across an await. Commands reach the machine only from [`BmcHandle::run`], one at a time and in
//! order; requests and the machine's own reports may come from any task.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::bmc::{Bmc, BootOption, BootOverride, Config, Password};
use crate::faults::{Faults, Guard, Rule};
use crate::hardware::Hardware;
use crate::machine::{Machine, MachineState};

/// The clock. It must run in step with tokio's timer (both paused, or both real), since waits use the latter.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// See the module's documentation. Cheap to clone.
#[derive(Clone)]
pub struct BmcHandle {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Mutex<Engine>,
    machine: Arc<dyn Machine>,
    now: Now,
    /// Something happened that may have made a command due.
    wake: Notify,
    faults: Faults,
}

struct Engine {
    bmc: Bmc,
    /// Counts the machine's own reports, so that a state read before the latest report is not taken for newer.
    reports: u64,
}

impl BmcHandle {
    pub fn new(config: Config, machine: Arc<dyn Machine>, now: Now) -> BmcHandle {
        // Machines in memory answer at once; for one that must ask around, `run` asks before it does anything else.
        let seen = machine.state().now_or_never().unwrap_or(MachineState::OFF);
        let bmc = Bmc::new(config, seen, now());
        BmcHandle {
            shared: Arc::new(Shared {
                engine: Mutex::new(Engine { bmc, reports: 0 }),
                machine,
                now,
                wake: Notify::new(),
                faults: Faults::default(),
            }),
        }
    }

    fn engine(&self) -> MutexGuard<'_, Engine> {
        // The engine's methods are total; should one panic nevertheless, its state is no worse than before the call.
        self.shared.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        (self.shared.now)()
    }

    /// Answers one request, through the faults that are set.
    pub async fn handle(&self, request: http::Request<Bytes>) -> http::Response<Bytes> {
        let verdict = self.shared.faults.judge(request.method(), request.uri().path());
        if let Some(delay) = verdict.delay {
            tokio::time::sleep(delay).await;
        }
        let reply = match verdict.instead() {
            Some(reply) => reply,
            None => {
                let mut engine = self.engine();
                let now = self.now();
                let reply = engine.bmc.handle(request, now);
                if engine.bmc.poll_at().is_some() {
                    self.shared.wake.notify_one();
                }
                reply
            }
        };
        verdict.amend(reply)
    }

    /// Whether a new connection would be accepted: not while the service restarts, nor under a fault that refuses.
    pub fn accepts_connections(&self) -> bool {
        !self.shared.faults.refuses_connections() && self.engine().bmc.reachable(self.now())
    }

    /// The firmware asks how to boot, as a BIOS does at POST; consumes a `Once` override.
    pub fn post_begins(&self) -> BootOverride {
        self.engine().bmc.post_begins()
    }

    /// The enabled boot options in boot order: what firmware walks when no override holds.
    pub fn boot_order(&self) -> Vec<BootOption> {
        self.engine().bmc.boot_order()
    }

    /// The machine changed by itself: a guest powered off, a boot made progress.
    pub fn machine_changed(&self, state: MachineState) {
        let mut engine = self.engine();
        engine.reports += 1;
        let now = self.now();
        engine.bmc.machine(state, now);
    }

    pub fn hardware(&self) -> Arc<Hardware> {
        Arc::clone(self.engine().bmc.hardware())
    }

    /// Rotates a password at the console. False if there is no such account.
    pub fn set_password(&self, user_name: &str, password: &Password) -> bool {
        self.engine().bmc.set_password(user_name, password)
    }

    /// Sets a fault, which lasts until the guard is dropped.
    #[must_use = "the fault is lifted when the guard is dropped"]
    pub fn fault(&self, rule: Rule) -> Guard {
        self.shared.faults.add(rule)
    }

    /// How many connections this BMC serves at a time.
    pub(crate) fn connection_limit(&self) -> usize {
        self.engine().bmc.personality.product().limits.connections
    }

    /// Drives timed transitions: carries out each command once, in order. Never returns; the owner holds the task. If it
    /// is dropped and called again, a command that was under way is not repeated: the machine is asked what it is.
    pub fn run(&self) -> impl Future<Output = ()> + Send + 'static {
        let this = self.clone();
        async move {
            this.interrupted();
            this.read_machine().await;
            loop {
                let command = this.engine().bmc.poll(this.now());
                if let Some(command) = command {
                    tracing::debug!(?command, "machine command");
                    let result = this.shared.machine.apply(command).await;
                    this.read_machine().await;
                    this.engine().bmc.applied(&result, this.now());
                    continue;
                }
                let wait = this.engine().bmc.poll_at().map(|at| until(at, this.now()));
                let wake = this.shared.wake.notified();
                match wait {
                    None => wake.await,
                    Some(wait) => {
                        tokio::select! {
                            biased;
                            () = wake => {}
                            () = tokio::time::sleep(wait) => {}
                        }
                    }
                }
            }
        }
    }

    /// A former `run` may have been dropped while a command was with the machine.
    fn interrupted(&self) {
        let mut engine = self.engine();
        let now = self.now();
        engine.bmc.applied(&Ok(()), now);
    }

    async fn read_machine(&self) {
        let before = self.engine().reports;
        let seen = self.shared.machine.state().await;
        let mut engine = self.engine();
        if engine.reports == before {
            let now = self.now();
            engine.bmc.machine(seen, now);
        }
    }
}

/// How long to wait; rounded up to tokio's resolution of a millisecond, so that a wait is never too short.
fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO) + Duration::from_millis(1)
}
