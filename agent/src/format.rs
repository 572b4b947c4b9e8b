//! The format of an image, from its first bytes: names and declared formats lie.

/// Formats that would be written as they are, and would not boot.
const MAGIC: &[(usize, &[u8], &str)] = &[
    (0, b"QFI\xfb", "qcow2"),
    (0, b"QED\0", "qed"),
    (0, b"KDMV", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (64, b"\x7f\x10\xda\xbe", "vdi"),
    (0, b"conectix", "vhd"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"LUKS\xba\xbe", "luks"),
    (0, b"\x1f\x8b\x08", "gzip"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"BZh", "bzip2"),
];

/// The longest prefix that [`not_raw`] looks at.
pub(crate) const PREFIX: usize = 128;

/// The name of the format if these first bytes are not a raw disk's. A raw image has no magic of its own: it is what
/// nothing else claims, and whether it has a partition table is checked when all of it is there.
pub(crate) fn not_raw(prefix: &[u8]) -> Option<&'static str> {
    MAGIC
        .iter()
        .find_map(|&(at, magic, name)| prefix.get(at..)?.starts_with(magic).then_some(name))
}

/// Whether a declared `disk_format` means "write the bytes as they are".
pub(crate) fn declares_raw(format: &str) -> bool {
    matches!(format, "raw" | "gpt" | "mbr")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_by_content() {
        let mut vdi = b"<<< Oracle VM VirtualBox Disk Image >>>\n".to_vec();
        vdi.resize(64, 0);
        vdi.extend_from_slice(b"\x7f\x10\xda\xbe");
        for (bytes, expected) in [
            (&b"QFI\xfb\0\0\0\x03"[..], Some("qcow2")),
            (b"\x1f\x8b\x08\0", Some("gzip")),
            (b"vhdxfile", Some("vhdx")),
            (&vdi, Some("vdi")),
            (&[0; 512], None),
            (b"QFI", None),
            (b"", None),
        ] {
            assert_eq!(not_raw(bytes), expected);
        }
    }
}
