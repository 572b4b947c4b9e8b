//! What an image is, from its own bytes: what its name or its spec say does not make a disk boot.

/// Enough of the beginning for every signature below; ISO 9660's is the last, at 32 KiB.
pub(crate) const HEAD: usize = 0x8800;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A whole disk: MBR or GPT.
    Disk,
    /// A web page where an image should be.
    Html,
    Other(&'static str),
    Unknown,
}

/// Signatures at the very beginning.
const MAGIC: [(&[u8], &str); 10] = [
    (b"QFI\xfb", "qcow2"),
    (b"KDMV", "vmdk"),
    (b"# Disk DescriptorFile", "vmdk descriptor"),
    (b"vhdxfile", "vhdx"),
    (b"conectix", "vhd"),
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"PK\x03\x04", "zip"),
];

pub(crate) fn sniff(head: &[u8]) -> Format {
    if let Some((_, name)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Format::Other(name);
    }
    // VirtualBox: free text, then 0xbeda107f at 64.
    if head.get(64..68) == Some(&[0x7f, 0x10, 0xda, 0xbe]) {
        return Format::Other("vdi");
    }
    let start: Vec<u8> = head
        .iter()
        .copied()
        .filter(|b| !b.is_ascii_whitespace())
        .take(14)
        .collect();
    if start.to_ascii_lowercase().starts_with(b"<!doctypehtml")
        || start.to_ascii_lowercase().starts_with(b"<html")
    {
        return Format::Html;
    }
    // GPT at sector 1 of 512 or of 4096 bytes; the protective or real MBR ends with 55 aa. A hybrid ISO has an
    // MBR, too, and is meant to be written to disks.
    let gpt = |at: usize| head.get(at..at + 8) == Some(b"EFI PART".as_slice());
    if gpt(512) || gpt(4096) || head.get(510..512) == Some(&[0x55, 0xaa]) {
        return Format::Disk;
    }
    if head.get(0x8001..0x8006) == Some(b"CD001".as_slice()) {
        return Format::Other("iso9660");
    }
    Format::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        head[at..at + bytes.len()].copy_from_slice(bytes);
        head
    }

    #[test]
    fn table() {
        for (head, want) in [
            (with(0, b"QFI\xfb\0\0\0\x03"), Format::Other("qcow2")),
            (with(0, b"KDMV"), Format::Other("vmdk")),
            (with(64, &[0x7f, 0x10, 0xda, 0xbe]), Format::Other("vdi")),
            (with(0, b"\x1f\x8b\x08"), Format::Other("gzip")),
            (with(0x8001, b"CD001"), Format::Other("iso9660")),
            (with(510, &[0x55, 0xaa]), Format::Disk),
            (with(512, b"EFI PART"), Format::Disk),
            (with(4096, b"EFI PART"), Format::Disk),
            (b"\n <!DOCTYPE html><html>".to_vec(), Format::Html),
            (vec![0; HEAD], Format::Unknown),
            (vec![], Format::Unknown),
        ] {
            assert_eq!(sniff(&head), want);
        }
    }
}
