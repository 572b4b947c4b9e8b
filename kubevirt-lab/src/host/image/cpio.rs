//! cpio archives in the new ASCII format (`newc`), as Linux unpacks them for an initramfs
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

const TRAILER: &str = "TRAILER!!!";
const HEADER: usize = 110;

/// Packs regular files; owner, times and inodes are constants.
pub(super) fn pack(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (inode, (name, content)) in files.iter().chain(&[(TRAILER, &[][..])]).enumerate() {
        let mode = if *name == TRAILER { 0 } else { 0o100_644 };
        let size = content.len();
        let name_size = name.len() + 1;
        let header = format!(
            "070701{inode:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{size:08x}{:08x}{:08x}{:08x}{:08x}{name_size:08x}{:08x}",
            0, 0, 1, 0, 0, 0, 0, 0, 0
        );
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(name.as_bytes());
        archive.push(0);
        pad(&mut archive);
        archive.extend_from_slice(content);
        pad(&mut archive);
    }
    archive
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// Files of an archive by name; `None` when it is damaged or has no trailer.
pub(super) fn unpack(archive: &[u8]) -> Option<Vec<(String, &[u8])>> {
    let mut files = Vec::new();
    let mut at = 0usize;
    loop {
        let header = archive
            .get(at..at + HEADER)
            .filter(|header| header.starts_with(b"070701"))?;
        let field = |index: usize| {
            let digits = std::str::from_utf8(header.get(6 + index * 8..14 + index * 8)?).ok()?;
            usize::from_str_radix(digits, 16).ok()
        };
        let (size, name_size) = (field(6)?, field(11)?);
        let name = archive
            .get(at + HEADER..(at + HEADER).checked_add(name_size)?)?
            .strip_suffix(b"\0")?;
        let start = (at + HEADER + name_size).next_multiple_of(4);
        let content = archive.get(start..start.checked_add(size)?)?;
        let name = std::str::from_utf8(name).ok()?;
        if name == TRAILER {
            return Some(files);
        }
        files.push((name.to_owned(), content));
        at = (start + size).next_multiple_of(4);
    }
}
