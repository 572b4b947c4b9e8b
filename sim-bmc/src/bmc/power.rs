//! Power sequencing: turns a `ResetType` into timed steps and single machine commands, and says what `PowerState` is.
//!
//! ```text
//!             accept(On)             due: poll -> Apply(On)         applied
//!   Off ───────────────> PoweringOn ──────────────────────> (in flight) ──> what the machine says
//! ```
//! Steps run strictly one after another; a command leaves `poll` once and is never repeated. While a step runs, its own
//! transitional state is shown; otherwise the machine's.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::machine::{MachineCommand, MachineState, Power};
use crate::personality::Timings;

/// `ComputerSystem.Reset` values that this BMC carries out, in the order in which they are advertised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResetType {
    On,
    ForceOff,
    GracefulShutdown,
    GracefulRestart,
    ForceRestart,
    Nmi,
    ForceOn,
    PushPowerButton,
    PowerCycle,
}

impl ResetType {
    pub(crate) const ALL: [ResetType; 9] = [
        ResetType::On,
        ResetType::ForceOff,
        ResetType::GracefulShutdown,
        ResetType::GracefulRestart,
        ResetType::ForceRestart,
        ResetType::Nmi,
        ResetType::ForceOn,
        ResetType::PushPowerButton,
        ResetType::PowerCycle,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Another transition runs, in another direction.
    InTransition,
    /// The reset makes sense only for a machine that is on.
    NeedsPower,
}

/// One stretch of a sequence: after `wait`, `command` goes to the machine; until then `shows` is reported.
#[derive(Clone, Copy, Debug)]
struct Step {
    wait: Duration,
    shows: Option<Power>,
    command: Option<MachineCommand>,
}

#[derive(Debug)]
pub(crate) struct PowerControl {
    machine: MachineState,
    boot_progress_at: Timestamp,
    last_reset_at: Option<Timestamp>,
    /// The front one is running and due at `due`, unless a command is in flight.
    steps: VecDeque<Step>,
    due: Timestamp,
    in_flight: Option<Step>,
}

impl PowerControl {
    pub(crate) fn new(machine: MachineState, now: Timestamp) -> PowerControl {
        PowerControl {
            machine,
            boot_progress_at: now,
            last_reset_at: None,
            steps: VecDeque::new(),
            due: now,
            in_flight: None,
        }
    }

    /// `PowerState` as a client sees it.
    pub(crate) fn reported(&self) -> Power {
        let running = self.in_flight.as_ref().or_else(|| self.steps.front());
        running.and_then(|step| step.shows).unwrap_or(self.machine.power)
    }

    pub(crate) fn machine_state(&self) -> MachineState {
        self.machine
    }

    pub(crate) fn boot_progress_at(&self) -> Timestamp {
        self.boot_progress_at
    }

    pub(crate) fn last_reset_at(&self) -> Option<Timestamp> {
        self.last_reset_at
    }

    fn busy(&self) -> bool {
        self.in_flight.is_some() || !self.steps.is_empty()
    }

    /// Where the running sequence ends, if one runs.
    fn destination(&self) -> Option<Power> {
        let last = self.steps.back().or(self.in_flight.as_ref())?;
        match last.command? {
            MachineCommand::On => Some(Power::On),
            MachineCommand::ForceOff => Some(Power::Off),
            _ => None,
        }
    }

    /// Accepts a reset, or says why not. A reset whose goal holds already, or is being reached, is accepted and does
    /// nothing, so that a repeated request is safe.
    pub(crate) fn accept(
        &mut self,
        reset: ResetType,
        timings: &Timings,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let reset = match (reset, self.reported()) {
            (ResetType::ForceOn, _) => ResetType::On,
            (ResetType::PushPowerButton, Power::Off) => ResetType::On,
            (ResetType::PushPowerButton, _) => ResetType::GracefulShutdown,
            // These end with power on, and DMTF's use case checker (PowerControl) expects as much of a system that is
            // off; a graceful restart or an NMI needs somebody there to answer it.
            (ResetType::ForceRestart | ResetType::PowerCycle, Power::Off) => ResetType::On,
            (other, _) => other,
        };
        match reset {
            ResetType::On => self.accept_on(timings, now),
            ResetType::ForceOff => {
                self.accept_off(timings, now);
                Ok(())
            }
            ResetType::GracefulShutdown => match self.machine.power {
                _ if self.destination() == Some(Power::Off) => Ok(()),
                _ if self.busy() => Err(Refusal::InTransition),
                Power::Off | Power::PoweringOff => Ok(()),
                Power::On | Power::PoweringOn => {
                    self.press(MachineCommand::GracefulShutdown, now);
                    Ok(())
                }
            },
            ResetType::GracefulRestart => self.accept_restart(MachineCommand::GracefulRestart, now),
            ResetType::ForceRestart => self.accept_restart(MachineCommand::ForceRestart, now),
            ResetType::Nmi => self.accept_restart(MachineCommand::Nmi, now),
            ResetType::PowerCycle => {
                self.require_on()?;
                self.start(
                    [
                        off_step(timings),
                        Step {
                            wait: timings.power_cycle(),
                            shows: Some(Power::Off),
                            command: None,
                        },
                        on_step(timings),
                    ],
                    now,
                );
                Ok(())
            }
            ResetType::ForceOn | ResetType::PushPowerButton => Ok(()),
        }
    }

    fn accept_on(&mut self, timings: &Timings, now: Timestamp) -> Result<(), Refusal> {
        match self.machine.power {
            _ if self.destination() == Some(Power::On) => Ok(()),
            _ if self.busy() => Err(Refusal::InTransition),
            Power::On | Power::PoweringOn => Ok(()),
            Power::PoweringOff => Err(Refusal::InTransition),
            Power::Off => {
                self.start([on_step(timings)], now);
                Ok(())
            }
        }
    }

    /// Force-off is the one reset that always wins: it replaces whatever sequence runs (a command that is already with
    /// the machine is waited for first).
    fn accept_off(&mut self, timings: &Timings, now: Timestamp) {
        let going_off = self.destination() == Some(Power::Off);
        let rests_off = !self.busy() && self.machine.power == Power::Off;
        if !going_off && !rests_off {
            self.start([off_step(timings)], now);
        }
    }

    fn accept_restart(&mut self, command: MachineCommand, now: Timestamp) -> Result<(), Refusal> {
        self.require_on()?;
        self.press(command, now);
        Ok(())
    }

    fn require_on(&self) -> Result<(), Refusal> {
        match self.machine.power {
            _ if self.busy() => Err(Refusal::InTransition),
            Power::On | Power::PoweringOn => Ok(()),
            Power::PoweringOff => Err(Refusal::InTransition),
            Power::Off => Err(Refusal::NeedsPower),
        }
    }

    fn press(&mut self, command: MachineCommand, now: Timestamp) {
        self.start(
            [Step {
                wait: Duration::ZERO,
                shows: None,
                command: Some(command),
            }],
            now,
        );
    }

    fn start<const N: usize>(&mut self, steps: [Step; N], now: Timestamp) {
        self.steps = VecDeque::from(steps);
        self.due = later(now, self.steps.front());
        self.last_reset_at = Some(now);
    }

    /// The next command for the machine, if one is due and none is in flight.
    pub(crate) fn poll(&mut self, now: Timestamp) -> Option<MachineCommand> {
        while self.in_flight.is_none() && self.due <= now {
            let step = self.steps.pop_front()?;
            if step.command.is_some() {
                self.in_flight = Some(step);
                return step.command;
            }
            self.due = later(now, self.steps.front());
        }
        None
    }

    pub(crate) fn poll_at(&self) -> Option<Timestamp> {
        (self.in_flight.is_none() && !self.steps.is_empty()).then_some(self.due)
    }

    /// The command in flight has been carried out, or has failed: then the rest of its sequence is void.
    pub(crate) fn applied(&mut self, succeeded: bool, now: Timestamp) {
        if self.in_flight.take().is_none() {
            return;
        }
        if !succeeded {
            self.steps.clear();
        }
        self.due = later(now, self.steps.front());
    }

    /// The machine says what it is. Returns whether that was news.
    pub(crate) fn machine(&mut self, seen: MachineState, now: Timestamp) -> bool {
        if self.machine.boot_progress != seen.boot_progress {
            self.boot_progress_at = now;
        }
        std::mem::replace(&mut self.machine, seen) != seen
    }
}

fn on_step(timings: &Timings) -> Step {
    Step {
        wait: timings.power_on(),
        shows: Some(Power::PoweringOn),
        command: Some(MachineCommand::On),
    }
}

fn off_step(timings: &Timings) -> Step {
    Step {
        wait: timings.power_off(),
        shows: Some(Power::PoweringOff),
        command: Some(MachineCommand::ForceOff),
    }
}

fn later(now: Timestamp, step: Option<&Step>) -> Timestamp {
    // Waits are at most minutes; a clock within minutes of the end of time stands still instead of panicking.
    step.map_or(now, |step| now.checked_add(step.wait).unwrap_or(now))
}

#[cfg(test)]
mod tests;
