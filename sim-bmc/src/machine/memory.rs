//! A machine that exists only in memory, for `sim-bmc serve` and tests: it powers on, walks through POST to a running
//! system, obeys the power button, and tells its BMC about each step.
//!
//! It has no task of its own: `run` drives it and belongs to the caller, like [`crate::BmcHandle::run`].

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::Notify;

use super::{BootProgress, Machine, MachineCommand, MachineError, MachineState, Power};
use crate::BmcHandle;

/// How long the phases of this machine take.
#[derive(Clone, Copy, Debug)]
pub struct MemoryTimings {
    /// Power good until firmware has initialised the hardware.
    pub post: Duration,
    /// Firmware done until the operating system runs.
    pub boot: Duration,
    /// Power button pressed until the operating system has shut down.
    pub shutdown: Duration,
}

impl Default for MemoryTimings {
    fn default() -> Self {
        MemoryTimings {
            post: Duration::from_secs(4),
            boot: Duration::from_secs(4),
            shutdown: Duration::from_secs(3),
        }
    }
}

/// Where a boot or shutdown stands. Each command replaces the phase, so a machine follows only its latest order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Firmware has control and has not yet asked for the boot device.
    Post,
    Loading,
    ShuttingDown {
        then_restart: bool,
    },
}

#[derive(Debug)]
struct State {
    machine: MachineState,
    phase: Phase,
    /// Counts commands, so that `run` notices one that arrived while it was waiting.
    epoch: u64,
    applied: Vec<MachineCommand>,
}

/// Commands kept for inspection by tests; older ones are forgotten.
const HISTORY: usize = 64;

/// See the module's documentation. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MemoryMachine {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    timings: MemoryTimings,
}

impl MemoryMachine {
    pub fn new(initial: MachineState, timings: MemoryTimings) -> MemoryMachine {
        let phase = match initial {
            MachineState {
                power: Power::On,
                boot_progress,
            } if boot_progress < BootProgress::OsRunning => Phase::Post,
            _ => Phase::Idle,
        };
        MemoryMachine {
            state: Arc::new(Mutex::new(State {
                machine: initial,
                phase,
                epoch: 0,
                applied: Vec::new(),
            })),
            changed: Arc::new(Notify::new()),
            timings,
        }
    }

    /// The latest commands, oldest first, at most 64.
    pub fn history(&self) -> Vec<MachineCommand> {
        self.lock().applied.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Walks the machine through its phases and reports each to `bmc`. Never returns.
    pub async fn run(self, bmc: BmcHandle) {
        loop {
            let (phase, epoch) = {
                let state = self.lock();
                (state.phase, state.epoch)
            };
            let wait = match phase {
                Phase::Idle => {
                    self.changed.notified().await;
                    continue;
                }
                Phase::Post => self.timings.post,
                Phase::Loading => self.timings.boot,
                Phase::ShuttingDown { .. } => self.timings.shutdown,
            };
            tokio::select! {
                biased;
                () = self.changed.notified() => continue,
                () = tokio::time::sleep(wait) => {}
            }
            if let Some(state) = self.finish(phase, epoch) {
                if phase == Phase::Post {
                    bmc.post_begins();
                }
                bmc.machine_changed(state);
            }
        }
    }

    /// Ends a phase, unless a newer command has replaced it.
    fn finish(&self, phase: Phase, epoch: u64) -> Option<MachineState> {
        let mut state = self.lock();
        if state.epoch != epoch {
            return None;
        }
        let (machine, next) = match phase {
            Phase::Idle => return None,
            Phase::Post => (
                MachineState {
                    power: Power::On,
                    boot_progress: BootProgress::SystemHardwareInitializationComplete,
                },
                Phase::Loading,
            ),
            Phase::Loading => (
                MachineState {
                    power: Power::On,
                    boot_progress: BootProgress::OsRunning,
                },
                Phase::Idle,
            ),
            Phase::ShuttingDown { then_restart: true } => (MachineState::ON, Phase::Post),
            Phase::ShuttingDown { then_restart: false } => (MachineState::OFF, Phase::Idle),
        };
        state.machine = machine;
        state.phase = next;
        Some(machine)
    }

    fn order(&self, command: MachineCommand) -> Result<(), MachineError> {
        let mut state = self.lock();
        let power = state.machine.power;
        let off = power == Power::Off;
        let (machine, phase) = match command {
            MachineCommand::On if off => (MachineState::ON, Phase::Post),
            MachineCommand::ForceOff => (MachineState::OFF, Phase::Idle),
            MachineCommand::ForceRestart if !off => (MachineState::ON, Phase::Post),
            MachineCommand::GracefulShutdown if !off => (
                MachineState {
                    power: Power::PoweringOff,
                    ..state.machine
                },
                Phase::ShuttingDown { then_restart: false },
            ),
            MachineCommand::GracefulRestart if !off => {
                (state.machine, Phase::ShuttingDown { then_restart: true })
            }
            MachineCommand::Nmi if !off => (state.machine, state.phase),
            MachineCommand::On
            | MachineCommand::ForceRestart
            | MachineCommand::GracefulShutdown
            | MachineCommand::GracefulRestart
            | MachineCommand::Nmi => return Err(MachineError::WrongState { command, power }),
        };
        state.machine = machine;
        state.phase = phase;
        state.epoch += 1;
        if state.applied.len() == HISTORY {
            state.applied.remove(0);
        }
        state.applied.push(command);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }
}

impl Machine for MemoryMachine {
    fn state(&self) -> BoxFuture<'_, MachineState> {
        Box::pin(async { self.lock().machine })
    }

    fn apply(&self, command: MachineCommand) -> BoxFuture<'_, Result<(), MachineError>> {
        Box::pin(async move { self.order(command) })
    }
}
