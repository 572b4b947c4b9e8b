//! Names and small values that every module shares: ports, networks, MAC addresses, the clock.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The clock. The engine never reads one by itself; the handle asks this one and passes the answer down.
pub type Now = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// Time inside the engine: nanoseconds since the epoch, which an `i64` holds until 2262. Frames cross the
/// dataplane by the million, and integer comparison is all that ageing and scheduling need.
pub(crate) type Nanos = i64;

pub(crate) fn nanos(at: jiff::Timestamp) -> Nanos {
    i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)
}

pub(crate) fn timestamp(at: Nanos) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(i128::from(at)).unwrap_or(jiff::Timestamp::MAX)
}

pub(crate) fn span(of: std::time::Duration) -> Nanos {
    i64::try_from(of.as_nanos()).unwrap_or(i64::MAX)
}

/// An EUI-48 address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// Group bit of IEEE 802: broadcast and multicast.
    pub fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("{0:?} is not a MAC address; write six hex bytes such as 52:54:00:00:00:01")]
    Mac(String),
    #[error("{0:?} is not a port; write SWITCH/PORT such as leaf-1/swp5")]
    Port(String),
}

impl FromStr for Mac {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Mac, NameError> {
        let bad = || NameError::Mac(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            Err(bad())
        } else {
            Ok(Mac(bytes))
        }
    }
}

/// A port of a switch, written `SWITCH/PORT`, for example `leaf-1/swp5`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName {
    switch: Arc<str>,
    port: Arc<str>,
}

impl PortName {
    pub fn new(switch: &str, port: &str) -> PortName {
        PortName {
            switch: switch.into(),
            port: port.into(),
        }
    }

    pub fn switch(&self) -> &str {
        &self.switch
    }

    pub fn port(&self) -> &str {
        &self.port
    }

    /// As Netris writes it: `swp5@leaf-1`.
    pub(crate) fn at_switch(&self) -> String {
        format!("{}@{}", self.port, self.switch)
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.switch, self.port)
    }
}

impl fmt::Debug for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PortName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<PortName, NameError> {
        match text.split_once('/') {
            Some((switch, port)) if !switch.is_empty() && !port.is_empty() && !port.contains('/') => {
                Ok(PortName::new(switch, port))
            }
            _ => Err(NameError::Port(text.to_owned())),
        }
    }
}

macro_rules! serde_as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
serde_as_text!(Mac, PortName);

/// A port in the dataplane: dense, so that the forwarding path indexes and never searches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub(crate) u32);

/// A V-Net; the number is its id in the management API. Never used again after a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId(pub(crate) u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_parse_in_both_spellings_and_nothing_else() {
        let mac = Mac([0x52, 0x54, 0, 0xab, 0xcd, 0x01]);
        assert_eq!("52:54:00:AB:cd:01".parse(), Ok(mac));
        assert_eq!("52-54-00-ab-cd-01".parse(), Ok(mac));
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:01");
        for bad in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:01:02",
            "52:54:00:ab:cd:1",
            "52:54:00:ab:cd:zz",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_parse() {
        let port: PortName = "leaf-1/swp5".parse().unwrap();
        assert_eq!((port.switch(), port.port()), ("leaf-1", "swp5"));
        assert_eq!(port.at_switch(), "swp5@leaf-1");
        for bad in ["", "leaf-1", "/swp5", "leaf-1/", "a/b/c"] {
            assert!(bad.parse::<PortName>().is_err(), "{bad}");
        }
    }
}
