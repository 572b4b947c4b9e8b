//! When the next heartbeat is due (ipa `agent.py` `IronicPythonAgentHeartbeater`).

use std::time::{Duration, Instant};

use crate::dice::Dice;

/// IPA's spacing between two beats, whatever forces them.
const SPACING_MAX: Duration = Duration::from_secs(5);
/// A service with a smaller timeout than Ironic's 300 s wants to know sooner: 5 s is a sixtieth of 300 s.
const SPACING_SHARE: u32 = 60;

/// The rhythm of heartbeats; at most one is under way.
#[derive(Debug)]
pub(crate) struct Heart {
    timeout: Duration,
    last: Option<Instant>,
    /// `None` while a beat is under way.
    next: Option<Instant>,
    /// A command ended while a beat was under way.
    again: bool,
}

impl Heart {
    /// The first beat is due at once.
    pub(crate) fn new(timeout: Duration, now: Instant) -> Self {
        Self {
            timeout,
            last: None,
            next: Some(now),
            again: false,
        }
    }

    fn spacing(&self) -> Duration {
        SPACING_MAX.min(self.timeout / SPACING_SHARE)
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.next
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|next| next <= now)
    }

    /// A beat is on its way.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.last = Some(now);
        self.next = None;
    }

    /// The service has it: the next one after 0.3 to 0.6 of the timeout.
    pub(crate) fn accepted(&mut self, now: Instant, dice: &mut Dice) {
        self.next = Some(now + self.timeout.mul_f64(dice.uniform(0.3, 0.6)));
        self.catch_up(now);
    }

    /// It failed: again after the spacing times 1 to 2 (ipa: 5 to 10 s).
    pub(crate) fn failed(&mut self, now: Instant, dice: &mut Dice) {
        self.next = Some(now + self.spacing().mul_f64(dice.uniform(1.0, 2.0)));
        self.again = false;
    }

    /// A command has ended, and the service waits to hear of it.
    pub(crate) fn force(&mut self, now: Instant) {
        self.again = true;
        self.catch_up(now);
    }

    fn catch_up(&mut self, now: Instant) {
        if self.again && self.next.is_some() {
            self.again = false;
            let earliest = self.last.map_or(now, |last| last + self.spacing());
            self.next = Some(earliest.max(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beating(timeout: u64) -> (Heart, Dice, Instant) {
        let now = Instant::now();
        let mut heart = Heart::new(Duration::from_secs(timeout), now);
        assert!(heart.is_due(now), "the first beat is immediate");
        heart.sent(now);
        assert_eq!(heart.due(), None);
        (heart, Dice::new(1), now)
    }

    #[test]
    fn cadence_is_a_third_to_three_fifths() {
        let (mut heart, mut dice, now) = beating(300);
        for _ in 0..100 {
            heart.accepted(now, &mut dice);
            let wait = heart.due().unwrap() - now;
            assert!((90..=180).contains(&wait.as_secs()), "{wait:?}");
        }
    }

    #[test]
    fn a_command_forces_a_beat_but_not_two_within_the_spacing() {
        let (mut heart, mut dice, now) = beating(300);
        heart.accepted(now, &mut dice);
        heart.force(now + Duration::from_secs(1));
        assert_eq!(heart.due().unwrap() - now, Duration::from_secs(5));
        heart.force(now + Duration::from_secs(60));
        assert_eq!(heart.due().unwrap() - now, Duration::from_secs(60));
    }

    #[test]
    fn a_small_timeout_has_a_small_spacing() {
        let (mut heart, mut dice, now) = beating(6);
        heart.accepted(now, &mut dice);
        heart.force(now);
        assert_eq!(heart.due().unwrap() - now, Duration::from_millis(100));
    }

    #[test]
    fn forced_while_under_way_comes_after_it_and_errors_back_off() {
        let (mut heart, mut dice, now) = beating(300);
        heart.force(now);
        assert_eq!(heart.due(), None, "one at a time");
        heart.accepted(now + Duration::from_secs(2), &mut dice);
        assert_eq!(heart.due().unwrap() - now, Duration::from_secs(5));
        heart.sent(now);
        heart.failed(now, &mut dice);
        let wait = heart.due().unwrap() - now;
        assert!((5.0..=10.0).contains(&wait.as_secs_f64()), "{wait:?}");
    }
}
