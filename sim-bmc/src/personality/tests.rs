//! What each product is rendered from.

use super::*;

fn identity(personality: &Personality) -> Identity {
    Identity {
        serial: "SN0001".to_owned(),
        uuid: Uuid::from_u128(1),
        macs: (0..personality.nic_count())
            .map(|n| Mac([0x52, 0x54, 0, 0, 0, n as u8]))
            .collect(),
        bmc_mac: Mac([0x52, 0x54, 0, 1, 0, 0]),
    }
}

#[test]
fn all_parse() {
    for name in Personality::names() {
        let personality = Personality::named(name).unwrap();
        assert_eq!(personality.name(), name);
        personality.hardware(&identity(&personality)).unwrap();
    }
}

#[test]
fn inventories_are_what_the_lab_promises() {
    // Threads, memory, drives, GPUs, NICs of each profile.
    let cases: &[(&str, u32, u64, &[u64], usize, usize)] = &[
        ("small-vm", 4, 16, &[20 << 30], 0, 1),
        ("cpu-epyc", 128, 512, &[1_920_383_410_176; 2], 0, 2),
        (
            "dgx-h100",
            224,
            2048,
            &[
                1_920_383_410_176,
                1_920_383_410_176,
                3_840_755_982_336,
                3_840_755_982_336,
                3_840_755_982_336,
                3_840_755_982_336,
                3_840_755_982_336,
                3_840_755_982_336,
                3_840_755_982_336,
                3_840_755_982_336,
            ],
            8,
            10,
        ),
    ];
    for (name, threads, gib, drives, gpus, nics) in cases {
        let personality = Personality::named(name).unwrap();
        let hardware = personality.hardware(&identity(&personality)).unwrap();
        assert_eq!(hardware.threads(), *threads, "{name}");
        assert_eq!(hardware.memory_mib(), gib * 1024, "{name}");
        assert_eq!(
            hardware.drives().map(|d| d.capacity_bytes).collect::<Vec<_>>(),
            *drives,
            "{name}"
        );
        assert_eq!(hardware.gpus.len(), *gpus, "{name}");
        assert_eq!(hardware.nics.len(), *nics, "{name}");
    }
}

#[test]
fn serials_differ_between_servers_and_stay_for_one() {
    let personality = Personality::named("cpu-epyc").unwrap();
    let one = personality.hardware(&identity(&personality)).unwrap();
    let again = personality.hardware(&identity(&personality)).unwrap();
    let other = personality
        .hardware(&Identity {
            serial: "SN0002".to_owned(),
            ..identity(&personality)
        })
        .unwrap();
    let serials = |h: &Hardware| h.drives().map(|d| d.serial.clone()).collect::<Vec<_>>();
    assert_eq!(serials(&one), serials(&again));
    assert_ne!(serials(&one), serials(&other));
    assert_ne!(serials(&one)[0], serials(&one)[1]);
}

#[test]
fn texts_are_shared() {
    let personality = Personality::named("cpu-epyc").unwrap();
    let one = personality.hardware(&identity(&personality)).unwrap();
    let two = personality.hardware(&identity(&personality)).unwrap();
    assert!(Arc::ptr_eq(
        &one.memory[0].part_number,
        &two.memory[5].part_number
    ));
}

#[test]
fn mistakes_are_named() {
    let personality = Personality::named("dgx-h100").unwrap();
    let error = personality
        .hardware(&Identity {
            macs: Vec::new(),
            ..identity(&personality)
        })
        .unwrap_err();
    insta::assert_snapshot!(error, @"personality 'dgx-h100' has 10 network interfaces, but 0 MAC addresses were given; give one for each");
    let error = Personality::named("dgx").unwrap_err();
    insta::assert_snapshot!(error, @"personality 'dgx' is not known; known ones are small-vm, cpu-epyc, dgx-h100");
    assert!(matches!(
        Personality::from_yaml("mine", "name: mine\nbogus: 1\n"),
        Err(PersonalityError::Unreadable { .. })
    ));
}
