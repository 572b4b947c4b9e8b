//! Kubernetes quantities (`2`, `500m`, `8Gi`, `1e3`): parse, compare, add, print canonically.
//!
//! An own few lines: `kube_quantity` differs from Go where binary and decimal meet, and k8s-openapi's type is a
//! bare string. A value is kept exactly, in thousand-millionths ([`SCALE`]), the finest that Go keeps too; finer
//! digits are rounded up as Go rounds. The printed form follows the rules of apimachinery's `resource.Quantity`:
//! no fraction, the largest suffix that leaves a whole number, and the family of suffixes that was read.

use std::cmp::Ordering;
use std::fmt;
use std::iter::Sum;
use std::ops::Add;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Units of one: `1n` is the smallest quantity.
const SCALE: i128 = 1_000_000_000;
/// The largest magnitude, as in Go: 2^63 - 1 ones.
const LIMIT: i128 = i64::MAX as i128 * SCALE;

const BINARY: [(&str, u32); 6] = [
    ("Ki", 10),
    ("Mi", 20),
    ("Gi", 30),
    ("Ti", 40),
    ("Pi", 50),
    ("Ei", 60),
];
const DECIMAL: [(&str, i32); 10] = [
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
enum Family {
    #[default]
    Decimal,
    Binary,
    Exponent,
}

/// An amount of a resource.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nano: i128,
    family: Family,
}

/// The text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a quantity: expected a number with an optional suffix, such as 2, 500m or 8Gi")]
pub struct QuantityError {
    text: String,
}

impl Quantity {
    pub const ZERO: Self = Self {
        nano: 0,
        family: Family::Decimal,
    };

    pub fn from_units(units: i64) -> Self {
        Self {
            nano: i128::from(units) * SCALE,
            family: Family::Decimal,
        }
    }

    /// An amount of bytes, printed with binary suffixes.
    pub fn from_bytes(bytes: i64) -> Self {
        Self {
            nano: i128::from(bytes) * SCALE,
            family: Family::Binary,
        }
    }

    /// Whole units, rounded up, as Go's `Value()`.
    pub fn units(self) -> i64 {
        let whole = self.nano.div_euclid(SCALE) + i128::from(self.nano.rem_euclid(SCALE) != 0);
        i64::try_from(whole).unwrap_or(if whole < 0 { i64::MIN } else { i64::MAX })
    }

    /// Thousandths, rounded up, as Go's `MilliValue()`.
    pub fn milli(self) -> i128 {
        let milli = SCALE / 1000;
        self.nano.div_euclid(milli) + i128::from(self.nano.rem_euclid(milli) != 0)
    }

    pub fn is_zero(self) -> bool {
        self.nano == 0
    }

    fn canonical(self) -> String {
        match self.family {
            _ if self.nano == 0 => "0".to_owned(),
            // Go: a binary quantity below 1024, or with a fraction, is printed as a decimal one.
            Family::Binary if self.nano % SCALE == 0 && self.nano.abs() >= 1024 * SCALE => {
                binary(self.nano / SCALE)
            }
            Family::Exponent => exponent(self.nano),
            Family::Binary | Family::Decimal => decimal(self.nano),
        }
    }
}

fn binary(whole: i128) -> String {
    for (suffix, bits) in BINARY.iter().rev() {
        if whole % (1 << bits) == 0 {
            return format!("{}{suffix}", whole >> bits);
        }
    }
    whole.to_string()
}

fn decimal(nano: i128) -> String {
    let (suffix, number) = largest_power(nano);
    format!("{number}{suffix}", suffix = DECIMAL[suffix].0)
}

fn exponent(nano: i128) -> String {
    let (suffix, number) = largest_power(nano);
    match DECIMAL[suffix].1 {
        0 => number.to_string(),
        power => format!("{number}e{power}"),
    }
}

/// The largest of the decimal suffixes that leaves a whole number, and that number.
fn largest_power(nano: i128) -> (usize, i128) {
    let mut best = (0, nano);
    for (index, (_, power)) in DECIMAL.iter().enumerate() {
        let unit = 10_i128.pow((power + 9).unsigned_abs());
        if nano % unit == 0 {
            best = (index, nano / unit);
        }
    }
    best
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| QuantityError {
            text: text.to_owned(),
        })
    }
}

fn parse(text: &str) -> Option<Quantity> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let (family, power_of_ten, power_of_two) = suffix_of(suffix)?;
    let magnitude = scaled(whole, fraction, power_of_ten, power_of_two)?;
    // Go caps what it cannot hold instead of refusing it.
    let magnitude = magnitude.min(LIMIT);
    Some(Quantity {
        nano: if negative { -magnitude } else { magnitude },
        family,
    })
}

/// Family, power of ten and power of two of a suffix.
fn suffix_of(suffix: &str) -> Option<(Family, i32, u32)> {
    if let Some((_, bits)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some((Family::Binary, 0, *bits));
    }
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((Family::Decimal, *power, 0));
    }
    let power = suffix.strip_prefix(['e', 'E'])?;
    let power: i32 = power.strip_prefix('+').unwrap_or(power).parse().ok()?;
    Some((Family::Exponent, power, 0))
}

/// `whole.fraction * 10^ten * 2^two` in thousand-millionths, rounded up, capped a little above [`LIMIT`].
fn scaled(whole: &str, fraction: &str, ten: i32, two: u32) -> Option<i128> {
    // Beyond these widths every non-zero value is capped or rounds to one thousand-millionth.
    const WIDEST: usize = 64;
    if whole.len() + fraction.len() > WIDEST || ten.abs() > 64 {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    let shift = 9 + ten - i32::try_from(fraction.len()).ok()?;
    // 38 digits is what i128 holds for certain.
    if i32::try_from(digits.len()).ok()? + shift > 36 {
        return Some(LIMIT);
    }
    let kept = i32::try_from(digits.len()).ok()?.min(36);
    let (head, tail) = digits.split_at(usize::try_from(kept).ok()?);
    let shift = shift + i32::try_from(tail.len()).ok()?;
    let mut value: i128 = head.parse().ok()?;
    let mut inexact = tail.bytes().any(|b| b != b'0');
    let factor = 1_i128 << two;
    if shift >= 0 {
        value = value
            .checked_mul(10_i128.checked_pow(shift.unsigned_abs())?)
            .unwrap_or(LIMIT);
        value = value.checked_mul(factor).unwrap_or(LIMIT);
    } else {
        value = value.checked_mul(factor).unwrap_or(LIMIT);
        match 10_i128.checked_pow(shift.unsigned_abs()) {
            Some(divisor) => {
                inexact |= value % divisor != 0;
                value /= divisor;
            }
            None => (value, inexact) = (0, true),
        }
    }
    Some(value.saturating_add(i128::from(inexact)).min(LIMIT))
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

// `1Gi` and `1073741824` are the same amount; the family only says how it is printed.
impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl Add for Quantity {
    type Output = Self;

    /// Keeps the family of the left side unless that is zero, as Go does.
    fn add(self, other: Self) -> Self {
        let family = if self.nano == 0 { other.family } else { self.family };
        Self {
            nano: (self.nano + other.nano).clamp(-LIMIT, LIMIT),
            family,
        }
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::ZERO, Add::add)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Words;
        impl Visitor<'_> for Words {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as 2, 500m or 8Gi")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
                Ok(Quantity::from_units(number))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
                Ok(Quantity::from_units(i64::try_from(number).unwrap_or(i64::MAX)))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Quantity, E> {
                number.to_string().parse().map_err(E::custom)
            }
        }
        from.deserialize_any(Words)
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{ "type": "integer" }, { "type": "string" }],
            "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        text.parse::<Quantity>().unwrap().to_string()
    }

    /// From apimachinery's documentation of Quantity and its tests' tables of canonical forms.
    #[test]
    fn canonical_forms_are_those_of_kubernetes() {
        for (given, want) in [
            ("0", "0"),
            ("0Gi", "0"),
            ("2", "2"),
            ("2.0", "2"),
            ("1.5", "1500m"),
            ("0.5Gi", "512Mi"),
            ("1.5Gi", "1536Mi"),
            ("1024Ki", "1Mi"),
            ("1023Ki", "1023Ki"),
            ("1Ki", "1Ki"),
            ("0.5Ki", "512"),
            ("0.1Ki", "102400m"),
            ("1000", "1k"),
            ("1000k", "1M"),
            ("1100", "1100"),
            ("500m", "500m"),
            ("1000m", "1"),
            ("100n", "100n"),
            ("0.1n", "1n"),
            ("1e3", "1e3"),
            ("100e3", "100e3"),
            ("1.2e3", "1200"),
            ("12E", "9223372036854775807"),
            ("-1.5", "-1500m"),
            ("+4Gi", "4Gi"),
            ("512Gi", "512Gi"),
            ("2Ti", "2Ti"),
        ] {
            assert_eq!(canonical(given), want, "{given}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_the_text() {
        for bad in [
            "", ".", "Gi", "1gi", "1KB", "1 Gi", "1.2.3", "--1", "1e", "one", "1Gi ",
        ] {
            let error = bad.parse::<Quantity>().unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("{bad:?} is not a quantity")),
                "{error}"
            );
        }
    }

    #[test]
    fn amounts_compare_across_families() {
        let q = |text: &str| text.parse::<Quantity>().unwrap();
        assert_eq!(q("1Gi"), q("1073741824"));
        assert!(q("1G") < q("1Gi"));
        assert!(q("2000m") == q("2") && q("1999m") < q("2"));
        assert_eq!((q("1Gi") + q("512Mi")).to_string(), "1536Mi");
        assert_eq!((Quantity::ZERO + q("8Gi")).to_string(), "8Gi");
        assert_eq!(q("1500m").units(), 2);
    }

    #[test]
    fn numbers_of_yaml_are_quantities_too() {
        let read = |json: &str| serde_json::from_str::<Quantity>(json).unwrap().to_string();
        assert_eq!(
            (read("2"), read("\"8Gi\""), read("0.5")),
            ("2".into(), "8Gi".into(), "500m".into())
        );
    }

    proptest! {
        #[test]
        fn printing_and_reading_again_changes_nothing(
            number in 0u64..1_000_000_000_000,
            fraction in 0u32..1000,
            suffix in prop::sample::select(vec!["", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e2", "e-3"]),
        ) {
            let first: Quantity = format!("{number}.{fraction:03}{suffix}").parse().unwrap();
            let second: Quantity = first.to_string().parse().unwrap();
            prop_assert_eq!(first, second);
            prop_assert_eq!(first.to_string(), second.to_string());
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<Quantity>();
        }

        #[test]
        fn no_number_panics(text in "[+-]?[0-9.]{0,70}[eEKkmnMGTPi0-9+-]{0,5}") {
            let _ = text.parse::<Quantity>();
        }
    }
}
