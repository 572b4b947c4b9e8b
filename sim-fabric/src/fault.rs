//! Faults on the wire: rules that look at a frame as it enters a port and give a verdict. Rules are asked in
//! the order they were added; the first verdict that is not [`Verdict::Pass`] counts. A rule lives as long as
//! its guard (`handle.rs`), so a test that panics leaves no fault behind.

use std::time::Duration;

use crate::names::{Mac, PortName};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// The frame enters this much later. Which network it then enters is decided then.
    Deliver(Duration),
    Drop,
}

/// A frame on its way into the fabric, as a rule sees it.
#[derive(Debug)]
pub struct FrameView<'a> {
    pub port: &'a PortName,
    /// The network that the port would put the frame in now; none if in no network.
    pub network: Option<&'a str>,
    pub src: Mac,
    pub dst: Mac,
    /// Behind an 802.1Q tag, if there is one.
    pub ethertype: u16,
    pub frame: &'a [u8],
}

pub(crate) type RuleFn = Box<dyn FnMut(&FrameView<'_>, &mut Dice) -> Verdict + Send>;

/// A rule with the usual filters, so that most faults are one line.
pub struct Rule {
    port: Option<PortName>,
    network: Option<String>,
    /// In 1/65536, so that equal seeds give equal verdicts on every machine: no floating point.
    chance: u32,
    verdict: Verdict,
}

impl Rule {
    pub fn drop_all() -> Rule {
        Rule {
            port: None,
            network: None,
            chance: 1 << 16,
            verdict: Verdict::Drop,
        }
    }

    /// Loses `percent` of the frames.
    pub fn lose(percent: u8) -> Rule {
        Rule {
            chance: (u32::from(percent.min(100)) << 16) / 100,
            ..Rule::drop_all()
        }
    }

    pub fn delay(by: Duration) -> Rule {
        Rule {
            verdict: Verdict::Deliver(by),
            ..Rule::drop_all()
        }
    }

    /// Only frames that enter at this port.
    pub fn at(self, port: &PortName) -> Rule {
        Rule {
            port: Some(port.clone()),
            ..self
        }
    }

    /// Only frames that enter this network.
    pub fn within(self, network: &str) -> Rule {
        Rule {
            network: Some(network.to_owned()),
            ..self
        }
    }

    pub(crate) fn into_fn(self) -> RuleFn {
        Box::new(move |frame, dice| {
            let here = self.port.as_ref().is_none_or(|port| port == frame.port)
                && self
                    .network
                    .as_deref()
                    .is_none_or(|network| frame.network == Some(network));
            // Asked last: a rule that does not apply draws nothing, so others' draws stay the same.
            if here && dice.below(1 << 16) < self.chance {
                self.verdict
            } else {
                Verdict::Pass
            }
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RuleId(u64);

pub(crate) struct Rules {
    rules: Vec<(RuleId, RuleFn)>,
    next: u64,
    dice: Dice,
}

impl Rules {
    pub(crate) fn new(seed: u64) -> Rules {
        Rules {
            rules: Vec::new(),
            next: 0,
            dice: Dice::new(seed),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub(crate) fn add(&mut self, rule: RuleFn) -> RuleId {
        self.next += 1;
        self.rules.push((RuleId(self.next), rule));
        RuleId(self.next)
    }

    /// Hands the rule back: dropping it may run code of others (a rule can own a port), which must not happen
    /// under the fabric's lock.
    pub(crate) fn remove(&mut self, id: RuleId) -> Option<RuleFn> {
        let at = self.rules.iter().position(|(other, _)| *other == id)?;
        Some(self.rules.remove(at).1)
    }

    pub(crate) fn judge(&mut self, frame: &FrameView<'_>) -> Verdict {
        for (_, rule) in &mut self.rules {
            match rule(frame, &mut self.dice) {
                Verdict::Pass => {}
                verdict => return verdict,
            }
        }
        Verdict::Pass
    }
}

/// Seeded pseudo-random numbers (SplitMix64, Steele et al. 2014): enough for loss and for session names of a
/// simulator, and the same on every machine. Not for secrets.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (0 if `bound` is 0).
    pub fn below(&mut self, bound: u32) -> u32 {
        (((self.next_u64() >> 32) * u64::from(bound)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(port: &PortName) -> FrameView<'_> {
        let mac = Mac([2; 6]);
        FrameView {
            port,
            network: Some("a"),
            src: mac,
            dst: mac,
            ethertype: 0x0800,
            frame: &[],
        }
    }

    #[test]
    fn the_first_verdict_counts_and_goes_with_its_rule() {
        let (here, there) = (PortName::new("leaf-1", "swp1"), PortName::new("leaf-1", "swp2"));
        let mut rules = Rules::new(1);
        let late = Duration::from_millis(3);
        let first = rules.add(Rule::delay(late).at(&here).into_fn());
        let second = rules.add(Rule::drop_all().within("a").into_fn());
        assert_eq!(rules.judge(&view(&here)), Verdict::Deliver(late));
        assert_eq!(rules.judge(&view(&there)), Verdict::Drop);
        rules.remove(first);
        assert_eq!(rules.judge(&view(&here)), Verdict::Drop);
        rules.remove(second);
        assert_eq!(rules.judge(&view(&here)), Verdict::Pass);
    }

    #[test]
    fn loss_is_seeded_and_about_right() {
        let port = PortName::new("leaf-1", "swp1");
        let run = |seed| {
            let mut rules = Rules::new(seed);
            rules.add(Rule::lose(30).into_fn());
            (0..10_000)
                .map(|_| rules.judge(&view(&port)) == Verdict::Drop)
                .collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let lost = run(7).into_iter().filter(|lost| *lost).count();
        assert!((2_700..3_300).contains(&lost), "{lost}");
    }
}
