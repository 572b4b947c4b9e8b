//! Power-off and reboot: everything written reaches the media first.

use serde_json::Value;

use super::{Context, Job, State};
use crate::event::{Action, HttpEvent, HttpId};
use crate::failure::Failure;
use crate::platform::Platform;

/// `standby.power_off` and `standby.run_image`.
pub(crate) struct ShutdownJob {
    pub(crate) reboot: bool,
}

impl Job for ShutdownJob {
    fn work(&mut self, context: &mut Context<'_>) -> Result<State, Failure> {
        flush_all(context.platform)?;
        context.note(if self.reboot { "rebooting" } else { "powering off" });
        Ok(State::Done(Value::Null))
    }

    fn http(&mut self, _: HttpId, _: HttpEvent, _: &mut Context<'_>) -> Result<State, Failure> {
        Ok(State::Waiting)
    }

    fn afterwards(&self) -> Option<Action> {
        Some(if self.reboot {
            Action::Reboot
        } else {
            Action::PowerOff
        })
    }
}

/// What `sync` does.
pub(crate) fn flush_all(platform: &mut dyn Platform) -> Result<(), Failure> {
    for disk in platform.disks() {
        if !disk.read_only {
            platform.flush(&disk.facts.name)?;
        }
    }
    Ok(())
}
