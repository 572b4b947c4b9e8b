//! Power commands, their transitions, and what contradicts them.

use super::*;
use crate::machine::BootProgress;

const TIMINGS: Timings = Timings {
    power_on_ms: 2000,
    power_off_ms: 1000,
    power_cycle_ms: 3000,
    manager_reset_ms: 0,
};

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap()
}

fn control(power: Power) -> PowerControl {
    PowerControl::new(
        MachineState {
            power,
            boot_progress: BootProgress::None,
        },
        at(0),
    )
}

/// Plays the driver: carries out what is due, as a machine that obeys at once.
fn drive(control: &mut PowerControl, now: Timestamp) -> Vec<MachineCommand> {
    let mut done = Vec::new();
    while let Some(command) = control.poll(now) {
        done.push(command);
        let power = match command {
            MachineCommand::On => Power::On,
            MachineCommand::ForceOff => Power::Off,
            _ => control.machine_state().power,
        };
        control.machine(
            MachineState {
                power,
                boot_progress: BootProgress::None,
            },
            now,
        );
        control.applied(true, now);
    }
    done
}

#[test]
fn on_takes_its_time() {
    let mut control = control(Power::Off);
    control.accept(ResetType::On, &TIMINGS, at(0)).unwrap();
    assert_eq!(control.reported(), Power::PoweringOn);
    assert_eq!(control.poll_at(), Some(at(2000)));
    assert_eq!(drive(&mut control, at(1999)), []);
    assert_eq!(drive(&mut control, at(2000)), [MachineCommand::On]);
    assert_eq!(control.reported(), Power::On);
    assert_eq!(control.poll_at(), None);
}

#[test]
fn power_cycle_is_off_then_on() {
    let mut control = control(Power::On);
    control.accept(ResetType::PowerCycle, &TIMINGS, at(0)).unwrap();
    assert_eq!(control.reported(), Power::PoweringOff);
    assert_eq!(drive(&mut control, at(1000)), [MachineCommand::ForceOff]);
    assert_eq!(control.reported(), Power::Off);
    assert_eq!(drive(&mut control, at(4000)), []);
    assert_eq!(control.reported(), Power::PoweringOn);
    assert_eq!(drive(&mut control, at(6000)), [MachineCommand::On]);
    assert_eq!(control.reported(), Power::On);
}

#[test]
fn a_late_driver_keeps_the_order() {
    let mut control = control(Power::On);
    control.accept(ResetType::PowerCycle, &TIMINGS, at(0)).unwrap();
    assert_eq!(drive(&mut control, at(60_000)), [MachineCommand::ForceOff]);
    // Off must last: the wait starts when power was really cut.
    assert_eq!(control.poll_at(), Some(at(63_000)));
}

#[test]
fn repeating_a_reset_changes_nothing() {
    let mut control = control(Power::Off);
    control.accept(ResetType::On, &TIMINGS, at(0)).unwrap();
    control.accept(ResetType::On, &TIMINGS, at(1500)).unwrap();
    assert_eq!(drive(&mut control, at(2000)), [MachineCommand::On]);
    control.accept(ResetType::On, &TIMINGS, at(3000)).unwrap();
    assert_eq!(control.poll_at(), None);
}

#[test]
fn force_off_wins_over_power_on() {
    let mut control = control(Power::Off);
    control.accept(ResetType::On, &TIMINGS, at(0)).unwrap();
    control.accept(ResetType::ForceOff, &TIMINGS, at(500)).unwrap();
    assert_eq!(drive(&mut control, at(10_000)), [MachineCommand::ForceOff]);
    assert_eq!(control.reported(), Power::Off);
}

#[test]
fn force_off_waits_for_the_command_in_flight() {
    let mut control = control(Power::Off);
    control.accept(ResetType::On, &TIMINGS, at(0)).unwrap();
    assert_eq!(control.poll(at(2000)), Some(MachineCommand::On));
    control.accept(ResetType::ForceOff, &TIMINGS, at(2001)).unwrap();
    assert_eq!(control.poll(at(9000)), None, "one command at a time");
    control.machine(MachineState::ON, at(9000));
    control.applied(true, at(9000));
    assert_eq!(drive(&mut control, at(10_000)), [MachineCommand::ForceOff]);
}

#[test]
fn contradictions_are_refused() {
    let cases: &[(Power, ResetType, Refusal)] = &[
        (Power::Off, ResetType::GracefulRestart, Refusal::NeedsPower),
        (Power::Off, ResetType::Nmi, Refusal::NeedsPower),
        (Power::PoweringOff, ResetType::On, Refusal::InTransition),
        (Power::PoweringOff, ResetType::ForceRestart, Refusal::InTransition),
    ];
    for (power, reset, refusal) in cases {
        let mut control = control(*power);
        assert_eq!(
            control.accept(*reset, &TIMINGS, at(0)),
            Err(*refusal),
            "{power:?} {reset:?}"
        );
    }
    let mut control = control(Power::On);
    control.accept(ResetType::ForceOff, &TIMINGS, at(0)).unwrap();
    assert_eq!(
        control.accept(ResetType::On, &TIMINGS, at(1)),
        Err(Refusal::InTransition)
    );
}

#[test]
fn restarts_of_a_machine_that_is_off_power_it_on() {
    for reset in [ResetType::ForceRestart, ResetType::PowerCycle, ResetType::ForceOn] {
        let mut control = control(Power::Off);
        control.accept(reset, &TIMINGS, at(0)).unwrap();
        assert_eq!(drive(&mut control, at(2000)), [MachineCommand::On], "{reset:?}");
    }
}

#[test]
fn the_power_button_toggles() {
    let mut off = control(Power::Off);
    off.accept(ResetType::PushPowerButton, &TIMINGS, at(0)).unwrap();
    assert_eq!(drive(&mut off, at(2000)), [MachineCommand::On]);
    let mut on = control(Power::On);
    on.accept(ResetType::PushPowerButton, &TIMINGS, at(0)).unwrap();
    assert_eq!(drive(&mut on, at(0)), [MachineCommand::GracefulShutdown]);
    assert_eq!(on.reported(), Power::On, "until the machine says otherwise");
    on.machine(MachineState::OFF, at(10));
    assert_eq!(on.reported(), Power::Off);
}

#[test]
fn a_failed_command_voids_its_sequence() {
    let mut control = control(Power::On);
    control.accept(ResetType::PowerCycle, &TIMINGS, at(0)).unwrap();
    assert_eq!(control.poll(at(1000)), Some(MachineCommand::ForceOff));
    control.applied(false, at(1000));
    assert_eq!(control.reported(), Power::On);
    assert_eq!(drive(&mut control, at(99_000)), []);
}

#[test]
fn guest_power_off_is_news_once() {
    let mut control = control(Power::On);
    assert!(control.machine(MachineState::OFF, at(1)));
    assert!(!control.machine(MachineState::OFF, at(2)));
    assert_eq!(control.reported(), Power::Off);
}
