//! A 48-bit Ethernet address: one spelling inside, any usual one from outside.

use std::{fmt, str::FromStr};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address of six hexadecimal pairs, as in 52:54:00:12:34:56")]
pub struct BadMac(String);

impl Mac {
    /// As iPXE's `${mac:hexhyp}` prints it: what boot script URLs use.
    pub fn dashed(self) -> String {
        self.joined('-')
    }

    fn joined(self, separator: char) -> String {
        let mut out = String::with_capacity(17);
        for (i, byte) in self.0.iter().enumerate() {
            if i > 0 {
                out.push(separator);
            }
            out.push_str(&format!("{byte:02x}"));
        }
        out
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.joined(':'))
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = BadMac;

    /// Pairs joined by colons or dashes, in either case.
    fn from_str(text: &str) -> Result<Self, BadMac> {
        let bad = || BadMac(text.chars().take(40).collect());
        let mut bytes = [0; 6];
        let mut pairs = text.split([':', '-']);
        for byte in &mut bytes {
            let pair = pairs
                .next()
                .filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = pair
                .and_then(|p| u8::from_str_radix(p, 16).ok())
                .ok_or_else(bad)?;
        }
        match pairs.next() {
            None => Ok(Mac(bytes)),
            Some(_) => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        let mac: Mac = "52:54:00:AB:cd:0e".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:0e");
        assert_eq!(mac.dashed(), "52-54-00-ab-cd-0e");
        assert_eq!(mac.dashed().parse::<Mac>().unwrap(), mac);
        for bad in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:0e:11",
            "52:54:00:ab:cd:+1",
            "5254.00ab.cd0e",
            "zz:54:00:ab:cd:0e",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
