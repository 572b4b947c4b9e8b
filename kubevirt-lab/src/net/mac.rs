//! An Ethernet address as a type, so that it is never passed where another name belongs.

use std::fmt;
use std::str::FromStr;

use smoltcp::wire::EthernetAddress;

/// An Ethernet address; written with colons, in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// Not an Ethernet address.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a MAC address: six bytes in hexadecimal, separated by ':' or '-'")]
pub struct MacError(String);

impl Mac {
    /// With dashes, as iPXE's `${mac:hexhyp}` writes it.
    pub fn hexhyp(&self) -> String {
        self.to_string().replace(':', "-")
    }

    pub(crate) fn ethernet(self) -> EthernetAddress {
        EthernetAddress(self.0)
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

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let bad = || MacError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            Err(bad())
        } else {
            Ok(Self(bytes))
        }
    }
}
