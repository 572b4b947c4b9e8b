//! `resource.Quantity`: exact parsing, comparison and the canonical form in which the real server stores it.

/// A value in nano units with the suffix family it was written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quantity {
    nanos: i128,
    family: Family,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Decimal,
    Binary,
    Exponent,
}

const NANO: i128 = 1_000_000_000;
const BINARY: &[(&str, u32)] = &[
    ("Ki", 10),
    ("Mi", 20),
    ("Gi", 30),
    ("Ti", 40),
    ("Pi", 50),
    ("Ei", 60),
];
const DECIMAL: &[(&str, i32)] = &[
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

impl Quantity {
    pub(crate) fn parse(text: &str) -> Option<Quantity> {
        let end = text
            .find(|c: char| !(c.is_ascii_digit() || "+-.".contains(c)))
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let negative = number.starts_with('-');
        let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || digits.contains(['+', '-']) {
            return None;
        }
        let (family, scale) = scale(suffix)?;
        // Digits beyond what 10^-9 of an exa needs cannot matter; i128 holds 38.
        if whole.len() + fraction.len() > 30 {
            return None;
        }
        let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
        let mut value = mantissa.checked_mul(NANO)?;
        match scale {
            Scale::Two(bits) => value = value.checked_mul(1_i128.checked_shl(bits)?)?,
            Scale::Ten(power) if power >= 0 => {
                value = value.checked_mul(10_i128.checked_pow(power.unsigned_abs())?)?
            }
            Scale::Ten(power) => value = divide_up(value, 10_i128.checked_pow(power.unsigned_abs())?),
        }
        let divisor = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let nanos = divide_up(value, divisor);
        Some(Quantity {
            nanos: if negative { -nanos } else { nanos },
            family,
        })
    }

    pub(crate) fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// For arithmetic and comparison across families.
    pub(crate) fn nanos(self) -> i128 {
        self.nanos
    }

    /// The form that `String()` prints: the largest suffix that needs no fraction.
    pub(crate) fn canonical(self) -> String {
        if self.nanos == 0 {
            return "0".into();
        }
        let whole = self.nanos % NANO == 0;
        if self.family == Family::Binary && whole && (self.nanos / NANO).abs() >= 1024 {
            let value = self.nanos / NANO;
            let found = BINARY.iter().rev().find(|(_, bits)| value % (1 << bits) == 0);
            return match found {
                Some((suffix, bits)) => format!("{}{suffix}", value >> bits),
                None => value.to_string(),
            };
        }
        if self.family == Family::Binary && whole {
            return (self.nanos / NANO).to_string();
        }
        for (suffix, power) in DECIMAL.iter().rev() {
            let unit = 10_i128.pow((power + 9).unsigned_abs());
            if self.nanos % unit == 0 {
                return match self.family {
                    Family::Exponent if *power != 0 => format!("{}e{power}", self.nanos / unit),
                    _ => format!("{}{suffix}", self.nanos / unit),
                };
            }
        }
        self.nanos.to_string() + "n"
    }
}

enum Scale {
    Two(u32),
    Ten(i32),
}

fn scale(suffix: &str) -> Option<(Family, Scale)> {
    if let Some((_, bits)) = BINARY.iter().find(|(s, _)| *s == suffix) {
        return Some((Family::Binary, Scale::Two(*bits)));
    }
    if let Some((_, power)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Some((Family::Decimal, Scale::Ten(*power)));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    (-18..=18)
        .contains(&exponent)
        .then_some((Family::Exponent, Scale::Ten(exponent)))
}

/// Go rounds what is too small up, away from zero.
fn divide_up(value: i128, by: i128) -> i128 {
    value / by + i128::from(value % by != 0)
}

#[cfg(test)]
mod tests {
    use super::Quantity;

    #[test]
    fn canonical_forms() {
        for (text, want) in [
            ("1", "1"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1000Mi", "1000Mi"),
            ("1000m", "1"),
            ("128974848", "128974848"),
            ("129e6", "129e6"),
            ("1000k", "1M"),
            ("-2", "-2"),
            ("0Gi", "0"),
            ("500Ki", "500Ki"),
            ("1G", "1G"),
        ] {
            assert_eq!(
                Quantity::parse(text).map(Quantity::canonical).as_deref(),
                Some(want),
                "{text}"
            );
        }
        for bad in ["", "x", "1.2.3", "1Qi", "--1", "1 Gi"] {
            assert_eq!(Quantity::parse(bad), None, "{bad:?}");
        }
    }
}
