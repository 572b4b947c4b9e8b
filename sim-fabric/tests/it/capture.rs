//! Captures, parsed back by a reader of our own and, where it is installed, by tshark.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use sim_fabric::{CaptureError, Mac};

use crate::support::{Lab, frame, heard, nic};

#[derive(Clone, Default)]
struct File(Arc<Mutex<Vec<u8>>>);

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl File {
    fn boxed(&self) -> Box<dyn Write + Send> {
        Box::new(self.clone())
    }

    fn parse(&self) -> Capture {
        Capture::parse(&self.0.lock().unwrap())
    }
}

#[derive(Debug, Default)]
struct Capture {
    interface: String,
    /// Nanoseconds since the epoch, frame.
    packets: Vec<(u64, Vec<u8>)>,
}

impl Capture {
    /// A reader by the letter of the format, little-endian, that trusts nothing.
    fn parse(mut bytes: &[u8]) -> Capture {
        let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let mut capture = Capture::default();
        let mut first = true;
        while !bytes.is_empty() {
            let (kind, length) = (word(bytes, 0), word(bytes, 4) as usize);
            assert_eq!(length % 4, 0);
            assert_eq!(
                word(bytes, length - 4) as usize,
                length,
                "both lengths of a block agree"
            );
            let body = &bytes[8..length - 4];
            match kind {
                0x0a0d_0d0a => {
                    assert!(first && word(body, 0) == 0x1a2b_3c4d);
                    assert_eq!(body[4..8], [1, 0, 0, 0], "version 1.0");
                }
                1 => {
                    assert_eq!((body[0], word(body, 4)), (1, 0), "Ethernet, no snap length");
                    let mut options = &body[8..];
                    let mut resolution = 6;
                    while options[..2] != [0, 0] {
                        let size = usize::from(u16::from_le_bytes([options[2], options[3]]));
                        match options[0] {
                            2 => {
                                capture.interface = String::from_utf8(options[4..4 + size].to_vec()).unwrap()
                            }
                            9 => resolution = options[4],
                            _ => {}
                        }
                        options = &options[4 + size.next_multiple_of(4)..];
                    }
                    assert_eq!(resolution, 9);
                }
                6 => {
                    assert_eq!(word(body, 0), 0, "the one interface");
                    let at = u64::from(word(body, 4)) << 32 | u64::from(word(body, 8));
                    let (kept, long) = (word(body, 12) as usize, word(body, 16) as usize);
                    assert_eq!(kept, long);
                    capture.packets.push((at, body[20..20 + kept].to_vec()));
                }
                other => panic!("block {other}"),
            }
            first = false;
            bytes = &bytes[length..];
        }
        capture
    }
}

const START: u64 = 1_767_225_600_000_000_000;

#[test]
fn every_frame_of_the_network_once_from_when_it_was_attached() {
    let lab = Lab::new();
    let (mut a, mut b, mut c) = (
        lab.attach("leaf-1/swp1"),
        lab.attach("leaf-1/swp3"),
        lab.attach("leaf-2/swp1"),
    );
    let elsewhere = lab.fabric.attach_network("services").unwrap();
    a.send(frame(Mac::BROADCAST, nic(1, 0), b"before"));
    let file = File::default();
    let guard = lab.fabric.capture("provisioning", file.boxed()).unwrap();
    lab.clock.pass(Duration::from_nanos(1_500_000_001));
    a.send(frame(Mac::BROADCAST, nic(1, 0), b"flooded to two"));
    lab.clock.pass(Duration::from_millis(1));
    b.send(frame(nic(1, 0), nic(2, 0), b"to one"));
    elsewhere.send(frame(Mac::BROADCAST, nic(9, 0), b"in another network"));
    b.set_link(false);
    b.send(frame(nic(1, 0), nic(2, 0), b"never on the wire"));
    drop(guard);
    a.send(frame(Mac::BROADCAST, nic(1, 0), b"after"));
    drop((heard(&mut a), heard(&mut b), heard(&mut c)));

    let capture = file.parse();
    assert_eq!(capture.interface, "provisioning");
    let got: Vec<_> = capture
        .packets
        .iter()
        .map(|(at, f)| (*at, String::from_utf8_lossy(&f[14..]).into_owned()))
        .collect();
    assert_eq!(
        got,
        [
            (START + 1_500_000_001, "flooded to two".to_owned()),
            (START + 1_501_000_001, "to one".to_owned())
        ]
    );
}

#[tokio::test]
async fn one_capture_for_each_network_also_for_later_ones() {
    let lab = Lab::new();
    let files: Arc<Mutex<Vec<(String, File)>>> = Arc::default();
    let opened = files.clone();
    let _guard = lab.fabric.capture_each(move |network| {
        let file = File::default();
        opened.lock().unwrap().push((network.to_owned(), file.clone()));
        Ok(file.boxed())
    });
    let names = || {
        files
            .lock()
            .unwrap()
            .iter()
            .map(|(name, _)| name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(), ["provisioning", "services"]);
    let mut api = lab.api().await;
    api.put_servers("provisioning", &["bare-metal-2"]).await;
    api.tenant("one", &["bare-metal-1"]).await;
    assert_eq!(names().len(), 2, "the switches do not have it yet");
    lab.converge();
    assert_eq!(names(), ["provisioning", "services", "one-net"]);
    lab.attach("leaf-1/swp1")
        .send(frame(Mac::BROADCAST, nic(1, 0), b"tenant"));
    lab.fabric.flush_captures();
    let counts: Vec<usize> = files
        .lock()
        .unwrap()
        .iter()
        .map(|(_, file)| file.parse().packets.len())
        .collect();
    assert_eq!(counts, [0, 0, 1]);
}

#[test]
fn frames_reach_the_file_without_being_asked_for() {
    let lab = Lab::new();
    let a = lab.attach("leaf-1/swp1");
    let file = File::default();
    let _guard = lab.fabric.capture("provisioning", file.boxed()).unwrap();
    a.send(frame(Mac::BROADCAST, nic(1, 0), b"x"));
    assert_eq!(file.parse().packets.len(), 0);
    lab.pass(Duration::from_millis(250));
    assert_eq!(file.parse().packets.len(), 1);
}

#[test]
fn a_writer_that_fails_ends_its_capture_and_nothing_else() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(bytes.len())
                .ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let lab = Lab::new();
    let (a, mut b) = (lab.attach("leaf-1/swp1"), lab.attach("leaf-1/swp3"));
    assert!(matches!(
        lab.fabric.capture("provisioning", Box::new(Full(10))),
        Err(CaptureError::Write(_))
    ));
    assert!(matches!(
        lab.fabric.capture("nowhere", Box::new(Full(0))),
        Err(CaptureError::UnknownNetwork(_))
    ));
    let _full = lab.fabric.capture("provisioning", Box::new(Full(200))).unwrap();
    let file = File::default();
    let _good = lab.fabric.capture("provisioning", file.boxed()).unwrap();
    for _ in 0..3 {
        a.send(frame(Mac::BROADCAST, nic(1, 0), &[7; 100]));
        lab.fabric.flush_captures();
    }
    assert_eq!((heard(&mut b).len(), file.parse().packets.len()), (3, 3));
}

/// The stock reader, where there is one (`make test-captures` installs it).
#[test]
fn tshark_reads_it_too() {
    let lab = Lab::new();
    let a = lab.attach("leaf-1/swp1");
    let file = File::default();
    let guard = lab.fabric.capture("provisioning", file.boxed()).unwrap();
    a.send(frame(Mac::BROADCAST, nic(1, 0), b"odd"));
    a.send(frame(Mac::BROADCAST, nic(1, 0), b"even"));
    drop(guard);
    let path = std::env::temp_dir().join(format!("sim-fabric-{}.pcapng", std::process::id()));
    std::fs::write(&path, &*file.0.lock().unwrap()).unwrap();
    let fields = [
        "-T",
        "fields",
        "-e",
        "frame.time_epoch",
        "-e",
        "frame.interface_name",
        "-e",
        "eth.src",
    ];
    let ran = std::process::Command::new("tshark")
        .arg("-r")
        .arg(&path)
        .args(fields)
        .output();
    std::fs::remove_file(&path).unwrap();
    let Ok(output) = ran else {
        assert_eq!(
            file.parse().packets.len(),
            2,
            "no tshark here: our own reader has to do"
        );
        return;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    for line in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        // Older versions write seconds, newer ones RFC 3339.
        assert!(
            fields[0].starts_with("1767225600.") || fields[0].starts_with("2026-01-01T00:00:00"),
            "{line}"
        );
        assert_eq!(fields[1..], ["provisioning", "52:54:00:00:01:00"], "{line}");
    }
}
