//! Which disk gets the image: root device hints (ipa `hardware.py`, ironic-lib `utils.py`).

use serde_json::{Map, Value};
use steelyard_agent_api::Disk;

use crate::failure::Failure;
use crate::platform::BlockDevice;

/// Smallest disk that is taken without a hint: 4 GiB.
const SIZE_MIN: u64 = 4 << 30;
const GIB: u64 = 1 << 30;

/// The root device: the first that matches all hints; without hints the smallest of at least 4 GiB.
pub(crate) fn choose<'a>(
    disks: &'a [BlockDevice],
    hints: Option<&Map<String, Value>>,
    skipped: &[&Map<String, Value>],
) -> Result<&'a BlockDevice, Failure> {
    let mut candidates = Vec::new();
    for disk in disks.iter().filter(|disk| !disk.removable && !disk.read_only) {
        if !is_skipped(&disk.facts, skipped)? {
            candidates.push(disk);
        }
    }
    let Some(hints) = hints else {
        candidates.sort_by(|a, b| (a.facts.size, &a.facts.name).cmp(&(b.facts.size, &b.facts.name)));
        return candidates
            .iter()
            .copied()
            .find(|disk| disk.facts.size >= SIZE_MIN)
            .ok_or_else(|| {
                Failure::DeviceNotFound(format!(
                    "no disk of at least 4 GiB for the image; found: {}",
                    list(disks)
                ))
            });
    };
    for disk in &candidates {
        if matches(&disk.facts, hints)? {
            return Ok(disk);
        }
    }
    let hints = Value::Object(hints.clone());
    Err(Failure::DeviceNotFound(format!(
        "no disk matches the root device hints {hints}; found: {}",
        list(disks)
    )))
}

/// Whether `skip_block_devices` names this disk.
pub(crate) fn is_skipped(disk: &Disk, skipped: &[&Map<String, Value>]) -> Result<bool, Failure> {
    for hints in skipped {
        if matches(disk, hints)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn list(disks: &[BlockDevice]) -> String {
    let of = |disk: &BlockDevice| {
        let serial = disk.facts.serial.as_deref().unwrap_or("-");
        format!("{} ({} bytes, serial {serial})", disk.facts.name, disk.facts.size)
    };
    if disks.is_empty() {
        "none".to_owned()
    } else {
        disks.iter().map(of).collect::<Vec<_>>().join(", ")
    }
}

/// Whether a disk has everything that the hints ask for. A disk that lacks an attribute doesn't match.
fn matches(disk: &Disk, hints: &Map<String, Value>) -> Result<bool, Failure> {
    for (name, hint) in hints {
        let matched = match name.as_str() {
            "size" => number(disk.size / GIB, name, &text(hint))?,
            "rotational" => boolean(name, hint)? == disk.rotational,
            _ => {
                let values = attribute(disk, name)?;
                let hint = unquote(&text(hint)).to_lowercase();
                let mut any = false;
                for value in values
                    .into_iter()
                    .flatten()
                    .map(|value| value.trim().to_lowercase())
                {
                    any |= !value.is_empty() && string(&value, name, &hint)?;
                }
                any
            }
        };
        if !matched {
            return Ok(false);
        }
    }
    Ok(true)
}

fn attribute<'a>(disk: &'a Disk, name: &str) -> Result<Vec<Option<&'a str>>, Failure> {
    let one = |value: &'a Option<String>| vec![value.as_deref()];
    Ok(match name {
        "name" => vec![Some(disk.name.as_str()), disk.by_path.as_deref()],
        "model" => one(&disk.model),
        "vendor" => one(&disk.vendor),
        "serial" => one(&disk.serial),
        "wwn" => vec![disk.wwn.as_deref(), disk.wwn_with_extension.as_deref()],
        "wwn_with_extension" => one(&disk.wwn_with_extension),
        "wwn_vendor_extension" => one(&disk.wwn_vendor_extension),
        "hctl" => one(&disk.hctl),
        "by_path" => one(&disk.by_path),
        "tran" => one(&disk.tran),
        _ => return Err(bad(name, "is not a known hint")),
    })
}

fn text(hint: &Value) -> String {
    match hint {
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    }
}

fn bad(name: &str, why: &str) -> Failure {
    Failure::InvalidParams(format!("root device hint {name} {why}"))
}

fn boolean(name: &str, hint: &Value) -> Result<bool, Failure> {
    match text(hint).to_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(bad(name, "is not a boolean")),
    }
}

/// Operators on numbers; `=` means "at least", a bare number means "equal".
fn number(value: u64, name: &str, hint: &str) -> Result<bool, Failure> {
    let parse = |text: &str| {
        text.trim()
            .parse::<u64>()
            .map_err(|_| bad(name, "is not a whole number of GiB"))
    };
    if hint.starts_with("<or>") || hint.starts_with("<in>") {
        let all = hint
            .split("<or>")
            .flat_map(|part| part.split("<in>"))
            .filter(|part| !part.trim().is_empty());
        for part in all {
            if parse(part)? == value {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    for (operator, test) in [
        ("==", u64::eq as fn(&u64, &u64) -> bool),
        ("!=", u64::ne),
        (">=", u64::ge),
        ("<=", u64::le),
        (">", u64::gt),
        ("<", u64::lt),
        ("=", u64::ge),
    ] {
        if let Some(rest) = hint.strip_prefix(operator) {
            return Ok(test(&value, &parse(rest)?));
        }
    }
    Ok(value == parse(hint)?)
}

/// Operators on strings; a bare string means "equal". Both sides are lower case already.
fn string(value: &str, name: &str, hint: &str) -> Result<bool, Failure> {
    for (operator, test) in [
        ("s==", str::eq as fn(&str, &str) -> bool),
        ("s!=", str::ne),
        ("s>=", |a, b| a >= b),
        ("s<=", |a, b| a <= b),
        ("s>", |a, b| a > b),
        ("s<", |a, b| a < b),
    ] {
        if let Some(rest) = hint.strip_prefix(operator) {
            return Ok(test(value, rest.trim()));
        }
    }
    let parts = |operator: &'static str| {
        hint.split(operator)
            .map(str::trim)
            .filter(|part| !part.is_empty())
    };
    if hint.starts_with("<or>") {
        return Ok(parts("<or>").any(|part| part == value));
    }
    if hint.starts_with("<all-in>") {
        return Ok(parts("<all-in>").all(|part| part.split_whitespace().all(|word| value.contains(word))));
    }
    if hint.starts_with("<in>") {
        return Ok(parts("<in>").any(|part| value.contains(part)));
    }
    if hint.starts_with('<') || hint.starts_with("s=") {
        return Err(bad(name, "has an unknown operator"));
    }
    Ok(value == hint)
}

/// Ironic URL-quotes hints with blanks in them (`Micron%205300`).
fn unquote(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn disk(name: &str, gib: u64, serial: &str) -> BlockDevice {
        let facts = Disk {
            name: name.to_owned(),
            size: gib << 30,
            serial: Some(serial.to_owned()),
            model: Some("Micron 5300 PRO".to_owned()),
            by_path: Some(format!("/dev/disk/by-path/pci-{serial}")),
            rotational: name.ends_with('c'),
            ..Disk::default()
        };
        BlockDevice {
            facts,
            ..BlockDevice::default()
        }
    }

    fn rack() -> Vec<BlockDevice> {
        let mut usb = disk("/dev/sdz", 8, "USB");
        usb.removable = true;
        vec![
            usb,
            disk("/dev/sda", 100, "A1"),
            disk("/dev/sdb", 3, "B2"),
            disk("/dev/sdc", 50, "C3"),
            disk("/dev/sdd", 50, "D4"),
        ]
    }

    fn chosen(hints: Value) -> Result<String, String> {
        let hints = hints.as_object().cloned();
        match choose(&rack(), hints.as_ref(), &[]) {
            Ok(disk) => Ok(disk.facts.name.clone()),
            Err(failure) => Err(failure.to_string()),
        }
    }

    #[test]
    fn hints_table() {
        for (hints, expected) in [
            (json!(null), Ok("/dev/sdc")),
            (json!({"name": "/dev/sdd"}), Ok("/dev/sdd")),
            (json!({"name": "/dev/disk/by-path/pci-A1"}), Ok("/dev/sda")),
            (json!({"serial": "d4"}), Ok("/dev/sdd")),
            (json!({"size": 50}), Ok("/dev/sdc")),
            (json!({"size": ">= 60"}), Ok("/dev/sda")),
            (json!({"size": "=60"}), Ok("/dev/sda")),
            (json!({"size": "< 10"}), Ok("/dev/sdb")),
            (json!({"size": "<or> 1 <or> 3"}), Ok("/dev/sdb")),
            (json!({"rotational": true}), Ok("/dev/sdc")),
            (json!({"rotational": "false", "size": 50}), Ok("/dev/sdd")),
            (json!({"model": "<in> 5300"}), Ok("/dev/sda")),
            (json!({"model": "s== micron%205300%20pro"}), Ok("/dev/sda")),
            (json!({"serial": "<or> X9 <or> D4"}), Ok("/dev/sdd")),
            (json!({"model": "<all-in> pro micron", "size": 3}), Ok("/dev/sdb")),
            (json!({"serial": "s!= A1"}), Ok("/dev/sdb")),
            (json!({"serial": "USB"}), Err("no disk matches")),
            (json!({"wwn": "0x5"}), Err("no disk matches")),
            (json!({"colour": "red"}), Err("colour is not a known hint")),
            (json!({"size": "big"}), Err("size is not a whole number")),
            (json!({"rotational": "perhaps"}), Err("not a boolean")),
            (json!({"serial": "<any> x"}), Err("unknown operator")),
        ] {
            match (chosen(hints.clone()), expected) {
                (Err(got), Err(part)) => assert!(got.contains(part), "{hints}: {got}"),
                (got, expected) => assert_eq!(
                    got.as_deref(),
                    expected.map_err(|e| e.to_owned()).as_ref().copied(),
                    "{hints}"
                ),
            }
        }
    }

    #[test]
    fn skipped_and_too_small_disks_are_not_taken() {
        let hints = json!({"serial": "<or> C3 <or> D4"});
        let skip = [hints.as_object().unwrap()];
        assert_eq!(choose(&rack(), None, &skip).unwrap().facts.name, "/dev/sda");
        let small = [disk("/dev/sda", 3, "A")];
        let error = choose(&small, None, &[]).unwrap_err();
        assert_eq!(error.class(), "DeviceNotFound");
        assert!(
            error
                .to_string()
                .contains("/dev/sda (3221225472 bytes, serial A)"),
            "{error}"
        );
    }
}
