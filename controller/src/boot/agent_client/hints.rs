//! Root device hints in Ironic's words.

use serde_json::{Map, Value, json};
use steelyard_api::metal3::RootDeviceHints;

/// Which operator each field has: as Metal3 maps them.
pub(super) fn root_device(hints: &RootDeviceHints) -> Map<String, Value> {
    let mut out = Map::new();
    let mut exact = |name: &str, value: &Option<String>| {
        if let Some(value) = value.as_deref().filter(|v| !v.is_empty()) {
            out.insert(name.to_owned(), json!(format!("s== {value}")));
        }
    };
    match hints.device_name.as_deref() {
        Some(path) if path.starts_with("/dev/disk/by-path/") => exact("by_path", &hints.device_name),
        _ => exact("name", &hints.device_name),
    }
    exact("hctl", &hints.hctl);
    exact("serial", &hints.serial_number);
    exact("wwn", &hints.wwn);
    exact("wwn_with_extension", &hints.wwn_with_extension);
    exact("wwn_vendor_extension", &hints.wwn_vendor_extension);
    for (name, value) in [("model", &hints.model), ("vendor", &hints.vendor)] {
        if let Some(value) = value.as_deref().filter(|v| !v.is_empty()) {
            out.insert(name.to_owned(), json!(format!("<in> {value}")));
        }
    }
    if let Some(size) = hints.min_size_gigabytes.filter(|size| *size > 0) {
        out.insert("size".to_owned(), json!(format!(">= {size}")));
    }
    if let Some(rotational) = hints.rotational {
        out.insert("rotational".to_owned(), json!(rotational));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_in_ironics_words() {
        let hints = RootDeviceHints {
            device_name: Some("/dev/disk/by-path/pci-1".into()),
            model: Some("Dell PERC".into()),
            min_size_gigabytes: Some(100),
            rotational: Some(false),
            serial_number: Some("S1".into()),
            ..RootDeviceHints::default()
        };
        insta::assert_json_snapshot!(root_device(&hints), @r#"
        {
          "by_path": "s== /dev/disk/by-path/pci-1",
          "serial": "s== S1",
          "model": "<in> Dell PERC",
          "size": ">= 100",
          "rotational": false
        }
        "#);
        assert!(
            root_device(&RootDeviceHints {
                min_size_gigabytes: Some(0),
                ..Default::default()
            })
            .is_empty()
        );
    }
}
