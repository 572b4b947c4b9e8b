//! A TFTP client against the engine over a network that loses, repeats and reorders; hostile packets.

use super::*;
use proptest::prelude::*;

const PEER: &str = "192.168.100.10:2070";

fn peer() -> SocketAddr {
    PEER.parse().unwrap()
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap()
}

fn rrq(words: &[&str]) -> Vec<u8> {
    let mut packet = vec![0, 1];
    for word in words {
        packet.extend_from_slice(word.as_bytes());
        packet.push(0);
    }
    packet
}

fn open(size: usize, options: &[&str]) -> (Transfer, Packets, Bytes) {
    let file: Bytes = (0..size).map(|n| (n % 251) as u8).collect::<Vec<_>>().into();
    let request = parse_request(&rrq(&[&["f", "octet"], options].concat())).unwrap();
    let (transfer, packets) = Transfer::open(&request, file.clone(), peer(), at(0));
    (transfer, packets, file)
}

fn ack(number: u16) -> Vec<u8> {
    [vec![0, 4], number.to_be_bytes().to_vec()].concat()
}

/// The numbers of the data packets.
fn numbers(packets: &Packets) -> Vec<u16> {
    packets
        .iter()
        .map(|(_, p)| {
            assert_eq!(p[..2], [0, 3]);
            u16::from_be_bytes([p[2], p[3]])
        })
        .collect()
}

#[test]
fn requests() {
    let request = parse_request(&rrq(&[
        "/snponly.efi",
        "OCTET",
        "BLKSIZE",
        "1024",
        "x",
        "y",
        "tsize",
        "0",
    ]))
    .unwrap();
    assert_eq!(request.file, "snponly.efi");
    assert_eq!(
        request.options,
        vec![(Wish::BlockSize, "1024".into()), (Wish::TransferSize, "0".into())]
    );
    for (packet, want) in [
        (rrq(&["f", "netascii"]), Refusal::Mode("netascii".into())),
        (rrq(&["f"]), Refusal::Mode(String::new())),
        (rrq(&["", "octet"]), Refusal::Malformed),
        (b"\0\x01f\0octet".to_vec(), Refusal::Malformed),
        (b"\0\x02f\0octet\0".to_vec(), Refusal::Write),
        (vec![0, 4, 0, 1], Refusal::Malformed),
        (vec![], Refusal::Malformed),
    ] {
        assert_eq!(parse_request(&packet), Err(want), "{packet:?}");
    }
    assert_eq!(Refusal::NoFile("x".into()).packet()[..4], [0, 5, 0, 1]);
}

#[test]
fn options_are_agreed_on() {
    let options = [
        "blksize",
        "9000",
        "tsize",
        "0",
        "windowsize",
        "4",
        "timeout",
        "3",
        "timeout",
        "9",
    ];
    let (_, packets, _) = open(3000, &options);
    let text = String::from_utf8(packets[0].1[2..].to_vec()).unwrap();
    assert_eq!(packets[0].1[..2], [0, 6]);
    assert_eq!(
        text,
        "blksize\x001468\0tsize\x003000\0windowsize\x004\0timeout\x003\0"
    );
    for unusable in [
        ["blksize", "7"],
        ["blksize", "-1"],
        ["timeout", "0"],
        ["windowsize", "0"],
    ] {
        assert_eq!(
            numbers(&open(10, &unusable).1),
            [1],
            "{unusable:?} is left out, so there is no OACK"
        );
    }
}

#[test]
fn a_file_of_whole_blocks_ends_with_an_empty_one() {
    let (mut transfer, packets, _) = open(1024, &[]);
    assert_eq!(numbers(&packets), [1]);
    assert_eq!(numbers(&transfer.on_packet(&ack(1), peer(), at(1))), [2]);
    let last = transfer.on_packet(&ack(2), peer(), at(2));
    assert_eq!(last[0].1, [0, 3, 0, 3]);
    assert!(transfer.on_packet(&ack(3), peer(), at(3)).is_empty());
    assert_eq!(*transfer.progress(), Progress::Done);
}

#[test]
fn a_repeated_ack_repeats_no_block() {
    let (mut transfer, _, _) = open(2000, &[]);
    assert_eq!(numbers(&transfer.on_packet(&ack(1), peer(), at(1))), [2]);
    assert!(
        transfer.on_packet(&ack(1), peer(), at(2)).is_empty(),
        "Sorcerer's Apprentice"
    );
    assert!(
        transfer.on_packet(&ack(9), peer(), at(3)).is_empty(),
        "not sent yet"
    );
}

#[test]
fn a_window_goes_on_where_it_was_lost() {
    let (mut transfer, _, _) = open(512 * 9, &["windowsize", "4"]);
    assert_eq!(numbers(&transfer.on_packet(&ack(0), peer(), at(1))), [1, 2, 3, 4]);
    assert_eq!(
        numbers(&transfer.on_packet(&ack(2), peer(), at(2))),
        [3, 4, 5, 6],
        "3 was lost"
    );
    assert_eq!(
        numbers(&transfer.on_packet(&ack(2), peer(), at(3))),
        [3, 4, 5, 6],
        "3 was lost again"
    );
    assert!(
        transfer.on_packet(&ack(2), peer(), at(4)).is_empty(),
        "only once without progress"
    );
    assert_eq!(
        numbers(&transfer.on_packet(&ack(6), peer(), at(5))),
        [7, 8, 9, 10]
    );
}

#[test]
fn silence_is_answered_by_patience_and_then_by_an_end() {
    let (mut transfer, _, _) = open(100, &[]);
    let mut repeats = 0;
    while *transfer.progress() == Progress::Running {
        let due = transfer.poll_at();
        let early = Timestamp::from_millisecond(due.as_millisecond() - 1).unwrap();
        assert!(transfer.poll(early).is_empty(), "before its time");
        repeats += transfer.poll(due).len();
    }
    assert_eq!(repeats, TRIES_MAX as usize - 1);
    assert!(matches!(transfer.progress(), Progress::Failed(why) if why.contains("silent")));
}

#[test]
fn strangers_get_an_error_and_change_nothing() {
    let (mut transfer, _, _) = open(2000, &[]);
    let stranger: SocketAddr = "192.168.100.66:1".parse().unwrap();
    let answer = transfer.on_packet(&ack(1), stranger, at(1));
    assert_eq!(
        (answer[0].0, &answer[0].1[..4]),
        (stranger, [0, 5, 0, 5].as_slice())
    );
    assert!(
        transfer.on_packet(&[0, 5, 0, 0, 0], stranger, at(1)).is_empty(),
        "no error for an error"
    );
    assert_eq!(numbers(&transfer.on_packet(&ack(1), peer(), at(2))), [2]);
    assert!(
        transfer
            .on_packet(b"\0\x05\0\x08no room\0", peer(), at(3))
            .is_empty()
    );
    assert!(matches!(transfer.progress(), Progress::Failed(why) if why.contains("8 no room")));
}

/// A client of its own making: RFC 1350 and 7440 from the other side.
struct Client {
    window: u64,
    block: usize,
    got: Vec<u8>,
    next: u64,
    since_ack: u64,
    done: bool,
}

impl Client {
    fn on(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        match packet[1] {
            6 => Some(ack(0)),
            3 => {
                let number = u16::from_be_bytes([packet[2], packet[3]]);
                if number != self.next as u16 {
                    self.since_ack = 0;
                    return Some(ack((self.next - 1) as u16));
                }
                self.got.extend_from_slice(&packet[4..]);
                self.next += 1;
                self.since_ack += 1;
                self.done = packet.len() - 4 < self.block;
                (self.done || self.since_ack == self.window).then(|| {
                    self.since_ack = 0;
                    ack(number)
                })
            }
            other => panic!("opcode {other}"),
        }
    }
}

/// Runs a transfer; `fate` says for each packet of either side whether it is lost.
fn run(size: usize, block: usize, window: u64, mut lost: impl FnMut() -> bool) -> (Vec<u8>, Bytes, Progress) {
    let options = [
        "blksize".to_owned(),
        block.to_string(),
        "windowsize".to_owned(),
        window.to_string(),
    ];
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let (mut transfer, mut to_client, file) = open(size, &options);
    let mut client = Client {
        window,
        block,
        got: vec![],
        next: 1,
        since_ack: 0,
        done: false,
    };
    let mut now = 0;
    while *transfer.progress() == Progress::Running {
        now += 1;
        let mut answers = Vec::new();
        for (to, packet) in to_client.drain(..) {
            assert_eq!(to, peer());
            if !lost() {
                answers.extend(client.on(&packet));
            }
        }
        for answer in answers {
            if !lost() {
                to_client.extend(transfer.on_packet(&answer, peer(), at(now)));
            }
        }
        if to_client.is_empty() && *transfer.progress() == Progress::Running {
            now = transfer.poll_at().as_millisecond() - at(0).as_millisecond();
            to_client = transfer.poll(at(now));
        }
    }
    (client.got, file, transfer.progress().clone())
}

#[test]
fn block_numbers_roll_over() {
    let (got, file, progress) = run(8 * 70_000 + 3, 8, 16, || false);
    assert_eq!(progress, Progress::Done);
    assert!(got == file, "70 001 blocks of 8 bytes");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_lost_the_file_is_whole_or_the_transfer_failed(
        size in 0usize..20_000, block in 8usize..1468, window in 1u64..20, rate in 0u32..30, seed in any::<u64>(),
    ) {
        let mut state = seed | 1;
        let (got, file, progress) = run(size, block, window, || {
            // xorshift
            state ^= state << 13; state ^= state >> 7; state ^= state << 17;
            (state >> 33) as u32 % 100 < rate
        });
        // A lost last ACK leaves the server waiting although the client has all.
        prop_assert!(got == file || matches!(progress, Progress::Failed(_)));
        prop_assert!(file.starts_with(&got), "never a wrong byte");
        if rate == 0 {
            prop_assert_eq!(progress, Progress::Done);
        }
    }

    #[test]
    fn never_data_for_strangers_and_never_a_panic(
        request in prop::collection::vec(any::<u8>(), 0..60),
        packets in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..12), any::<bool>(), 0i64..5000), 0..40),
    ) {
        let _ = parse_request(&request);
        let _ = parse_request(&[&[0, 1][..], &request].concat());
        let (mut transfer, _, _) = open(5000, &["windowsize", "3"]);
        let stranger: SocketAddr = "10.0.0.1:69".parse().unwrap();
        let mut now = 0;
        for (mut packet, honest, wait) in packets {
            now += wait;
            // Half of the noise looks like TFTP.
            if let [a, b, ..] = packet.as_mut_slice()
                && *b < 128
            {
                (*a, *b) = (0, *b % 7);
            }
            let from = if honest { peer() } else { stranger };
            let mut sent = transfer.on_packet(&packet, from, at(now));
            sent.extend(transfer.poll(at(now)));
            for (to, packet) in sent {
                prop_assert!(to == peer() || (to == stranger && packet.starts_with(&[0, 5])));
            }
        }
    }
}
