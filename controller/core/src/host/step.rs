//! The steps inside a state, as `status.steelyard.step` spells them.

/// How far a host is inside its state. Each step ends with an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The BMC is asked for the first time, or again.
    Verify,
    /// The image is fetched and verified by us.
    Image,
    /// The server goes off.
    Off,
    /// The server goes into the home network.
    Home,
    /// The server is switched on to boot from the network.
    Boot,
    /// The agent is awaited.
    Agent,
    /// The agent writes the image.
    Write,
    /// The agent erases the disks.
    Erase,
    /// The agent switches the server off.
    Shutdown,
    /// The server goes into the network of its user.
    Move,
    /// The server is switched on to boot from its disk.
    Disk,
    /// The system on the disk starts, or the node joins.
    Join,
    /// What a claim wrote on the host is taken back.
    Restore,
    /// Power management: going off softly, going off, going on.
    PowerOffSoft,
    PowerOff,
    PowerOn,
    /// The server leaves its network before its host is forgotten.
    Leave,
}

const NAMES: &[(Step, &str)] = &[
    (Step::Verify, "verify"),
    (Step::Image, "image"),
    (Step::Off, "off"),
    (Step::Home, "home"),
    (Step::Boot, "boot"),
    (Step::Agent, "agent"),
    (Step::Write, "write"),
    (Step::Erase, "erase"),
    (Step::Shutdown, "shutdown"),
    (Step::Move, "move"),
    (Step::Disk, "disk"),
    (Step::Join, "join"),
    (Step::Restore, "restore"),
    (Step::PowerOffSoft, "power-off-soft"),
    (Step::PowerOff, "power-off"),
    (Step::PowerOn, "power-on"),
    (Step::Leave, "leave"),
];

impl Step {
    pub(super) fn as_str(self) -> &'static str {
        NAMES
            .iter()
            .find(|(step, _)| *step == self)
            .map_or("", |(_, name)| name)
    }

    /// What did not happen, when the step takes too long.
    pub(super) fn undone(self) -> &'static str {
        match self {
            Step::Verify => "the BMC did not answer",
            Step::Image => "the image was not fetched",
            Step::Off | Step::Shutdown | Step::PowerOff | Step::PowerOffSoft => "the server did not go off",
            Step::Home => "the server was not seen in its home network",
            Step::Boot | Step::PowerOn => "the server did not go on",
            Step::Agent => "the agent did not come",
            Step::Write => "the image was not written",
            Step::Erase => "the disks were not erased",
            Step::Move => "the server was not seen in its user's network",
            Step::Disk => "the server did not boot from its disk",
            Step::Join => "the system on the disk did not start",
            Step::Restore => "the host's spec was not restored",
            Step::Leave => "the server was not seen out of its network",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Step> {
        NAMES.iter().find(|(_, n)| *n == name).map(|(step, _)| *step)
    }
}
