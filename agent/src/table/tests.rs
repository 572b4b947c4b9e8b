//! Tables against the `gpt` crate, which shares no code with ours.

use std::io::Cursor;

use super::*;

const MIB: u64 = 1 << 20;

/// A GPT disk of `size` bytes with one partition of 2 MiB, made by the `gpt` crate.
pub(crate) fn gpt_image(size: u64) -> Vec<u8> {
    let mut device = Cursor::new(vec![0; size as usize]);
    let mbr = ::gpt::mbr::ProtectiveMBR::with_lb_size((size / 512 - 1) as u32);
    mbr.overwrite_lba0(&mut device).unwrap();
    let mut disk = ::gpt::GptConfig::new()
        .writable(true)
        .create_from_device(device, None)
        .unwrap();
    disk.add_partition("root", 2 * MIB, ::gpt::partition_types::LINUX_FS, 0, Some(2048))
        .unwrap();
    disk.write().unwrap().into_inner()
}

fn open(disk: Vec<u8>) -> ::gpt::GptDisk<Cursor<Vec<u8>>> {
    let config = ::gpt::GptConfig::new().only_valid_headers(true);
    config.open_from_device(Cursor::new(disk)).unwrap()
}

#[test]
fn the_backup_moves_to_the_end_and_the_config_drive_is_there() {
    let size = 80 * MIB;
    let mut disk = gpt_image(4 * MIB);
    disk.resize(size as usize, 0);
    let mut table = Table::parse(&disk[..MIB as usize], 512).unwrap();
    assert_eq!(table.partitions().len(), 1);
    table.fit(size).unwrap();
    let added = table.add_config_drive([7; 16]).unwrap();
    assert!(
        added.start >= size - 66 * MIB && added.length >= 64 * MIB,
        "{added:?}"
    );
    table.store(&mut disk[..MIB as usize]);
    let (at, bytes) = table.backup().unwrap();
    assert_eq!(at + bytes.len() as u64, size);
    disk[at as usize..].copy_from_slice(&bytes);

    let read = open(disk.clone());
    assert_eq!(read.primary_header().unwrap().backup_lba, size / 512 - 1);
    assert_eq!(read.backup_header().unwrap().current_lba, size / 512 - 1);
    assert_eq!(read.primary_header().unwrap().last_usable, size / 512 - 34);
    let drive = &read.partitions()[&2];
    assert_eq!(
        (drive.name.as_str(), drive.first_lba * 512),
        ("config-2", added.start)
    );
    assert_eq!(
        u32::from_le_bytes(disk[458..462].try_into().unwrap()) as u64,
        size / 512 - 1
    );
}

#[test]
fn damaged_tables_are_refused() {
    let image = gpt_image(4 * MIB);
    for (at, why) in [
        (512 + 60, "checksum of the header"),
        (1024 + 40, "checksum of the entries"),
    ] {
        let mut broken = image.clone();
        broken[at] ^= 1;
        let error = Table::parse(&broken[..MIB as usize], 512)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(why), "{error}");
    }
    let mut headless = image.clone();
    headless[512..520].fill(0);
    let error = Table::parse(&headless[..MIB as usize], 512)
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("no GPT header behind it"), "{error}");
    assert_eq!(Table::parse(&[0; 4096], 512).err(), Some(TableError::None));
    assert_eq!(Table::parse(&[], 512).err(), Some(TableError::None));
    // A prefix of every length must not panic.
    for length in (0..20_000).step_by(97) {
        let _ = Table::parse(&image[..length], 512);
    }
}

#[test]
fn disks_that_are_too_small_say_so() {
    let image = gpt_image(4 * MIB);
    let mut table = Table::parse(&image[..MIB as usize], 512).unwrap();
    assert!(matches!(
        table.fit(2 * MIB),
        Err(TableError::TooLong { number: 1, .. })
    ));
    table.fit(60 * MIB).unwrap();
    assert!(matches!(
        table.add_config_drive([1; 16]),
        Err(TableError::NoRoom { number: 1, .. })
    ));
}

fn mbr_image() -> Vec<u8> {
    let mut head = vec![0; MIB as usize];
    head[440..444].copy_from_slice(&0xdead_beef_u32.to_le_bytes());
    head[446 + 4] = 0x83;
    head[446 + 8..446 + 12].copy_from_slice(&2048u32.to_le_bytes());
    head[446 + 12..446 + 16].copy_from_slice(&4096u32.to_le_bytes());
    head[510..512].copy_from_slice(&[0x55, 0xaa]);
    head
}

#[test]
fn mbr_disks_get_a_primary_partition_at_the_end() {
    let mut head = mbr_image();
    let mut table = Table::parse(&head, 512).unwrap();
    table.fit(1 << 30).unwrap();
    let added = table.add_config_drive([0; 16]).unwrap();
    assert_eq!(
        (added.number, added.start, added.length),
        (2, (1 << 30) - 64 * MIB, 64 * MIB)
    );
    table.store(&mut head);
    assert_eq!(Table::parse(&head, 512).unwrap().partitions()[1], added);
    assert!(table.backup().is_none());
    assert_eq!(disk_identifier(&head), "0xdeadbeef");
    // 4 TiB: beyond what 32 bits of sectors reach.
    let mut table = Table::parse(&mbr_image(), 512).unwrap();
    table.fit(4 << 40).unwrap();
    let far = table.add_config_drive([0; 16]).unwrap();
    assert!(far.start + far.length <= 2_097_151 * MIB, "{far:?}");
}

#[test]
fn a_file_system_boot_sector_is_no_table() {
    let mut head = mbr_image();
    head[446..510].fill(0x41);
    assert_eq!(Table::parse(&head, 512).err(), Some(TableError::None));
}

#[test]
fn shared_file_systems_are_known() {
    let mut partition = Partition {
        number: 1,
        start: 0,
        length: 1,
        kind: Kind::Byte(0xfb),
    };
    assert_eq!(shared_file_system(&partition), Some("VMFS"));
    let guid = uuid::uuid!("AA31E02A-400F-11DB-9590-000C2911D1B8").to_bytes_le();
    partition.kind = Kind::Guid(guid);
    assert_eq!(shared_file_system(&partition), Some("VMFS"));
    partition.kind = Kind::Guid(uuid::uuid!("37AFFC90-EF7D-4E96-91C3-2D7AE055B174").to_bytes_le());
    assert_eq!(shared_file_system(&partition), Some("GPFS"));
    partition.kind = Kind::Byte(0x83);
    assert_eq!(shared_file_system(&partition), None);
}
