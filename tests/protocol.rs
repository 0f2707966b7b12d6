//! docs/protocol.md is true: its example decodes, its numbers are those on the wire.
use bytes::Bytes;
use conveyor::base::{Batch, Chunk, Cursor, EntryView, PeerId, PeerName, RunId, Seq, TopicId, TopicName};
use conveyor::base::{ClusterId, StoreId};
use conveyor::client::{
    About, Blocked, BlockedReason, Gap, GapReason, ReadError, ReadFrom, Refusal, TopicChange,
};
use conveyor::client::{Member, MemberState};
use conveyor::wire::frame::{Decoder, Kind};
use conveyor::wire::message::{self, Hello, PageRequest, ReadRequest, Reply, Request, Welcome};
use conveyor::wire::outcome::{AppendError, TopicInfo};

const DOCUMENT: &str = include_str!("../docs/protocol.md");

/// The rows of the table under a heading: number and name.
fn numbered(heading: &str) -> Vec<(u8, String)> {
    let (_, section) = DOCUMENT.split_once(heading).expect("the document has the heading");
    let rows =
        section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        Some((cells[1].parse().ok()?, cells[2].trim_matches('`').to_owned()))
    };
    rows.filter_map(row).collect()
}

/// What `Debug` calls a value's variant.
fn variant(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.chars().take_while(|c| c.is_alphanumeric()).collect()
}

fn requests() -> Vec<Request> {
    let topic = TopicName::new("jobs").unwrap();
    let from = ReadFrom::Start;
    vec![
        Request::Hello(Hello { version_min: 1, version_max: 1, features: 0, program: "x".into() }),
        Request::Append { topic: topic.clone(), durability: None },
        Request::Read(ReadRequest {
            topic: topic.clone(),
            from: from.clone(),
            follow: true,
            skip_damaged: false,
        }),
        Request::Page(PageRequest {
            topic: topic.clone(),
            from,
            key: None,
            entry_count_max: 1,
            bytes_max: 1,
            wait_ms: 1,
            skip_damaged: false,
        }),
        Request::Get { ids: vec![], wait_ms: 0 },
        Request::Status,
        Request::Topics,
        Request::Topic { topic: topic.clone() },
        Request::Change(TopicChange::Delete { topic: topic.clone() }),
        Request::Import { topic },
        Request::AcceptClock,
        Request::Members,
    ]
}

/// One of each, but for `Status`, which has too many fields to be of use here.
fn replies() -> Vec<Reply> {
    let (cluster, topic) = (ClusterId([1; 16]), TopicId([2; 16]));
    let (peer, run, from, until) = (PeerId([3; 32]), RunId(4), Seq(5), Seq(6));
    let cursor = Cursor::start(cluster, topic);
    let name = PeerName::new("a").unwrap();
    let told_name = name.clone();
    let about = About { cluster, peer, name: name.clone(), store: StoreId(1), version: "x".into() };
    let info = TopicInfo {
        name: TopicName::new("jobs").unwrap(),
        settings: Default::default(),
        is_configured: false,
        logs: vec![],
    };
    vec![
        Reply::Welcome(Welcome { version: 1, features: 0, about }),
        Reply::Refused(Refusal::Stopping),
        Reply::Ready,
        Reply::Appended(Err(AppendError::Kind)),
        Reply::Begun { cursor: cursor.clone() },
        Reply::Gap(Gap { peer, run, from, until, reason: GapReason::Lost, goes_on_from: None }),
        Reply::Blocked(Blocked { peer, run, from, until, reason: BlockedReason::Io }),
        Reply::CaughtUp { cursor: cursor.clone() },
        Reply::Failed(ReadError::Stopped),
        Reply::Name { peer, name },
        Reply::PageEnd { cursor, at_end: true },
        Reply::Topic(info),
        Reply::Done,
        Reply::Changed(Err(conveyor::client::TopicError::Stopped { reason: String::new() })),
        Reply::Imported(Ok(conveyor::wire::outcome::Imported::New)),
        Reply::Member(Member {
            store: StoreId(1),
            peer,
            name: told_name,
            address: None,
            state: MemberState::Oneself,
        }),
    ]
}

#[test]
fn requests_and_replies_have_the_numbers_in_the_document() {
    let told = numbered("### Requests");
    let ours = requests().iter().map(|r| (message::encode(r).unwrap()[0], variant(r))).collect::<Vec<_>>();
    assert_eq!(told, ours);
    let mut told = numbered("### Replies");
    told.retain(|(_, name)| name != "Status");
    let ours = replies().iter().map(|r| (message::encode(r).unwrap()[0], variant(r))).collect::<Vec<_>>();
    assert_eq!(told, ours);
}

#[test]
fn kinds_of_frames_have_the_numbers_and_limits_in_the_document() {
    let (_, section) = DOCUMENT.split_once("| kind | name |").unwrap();
    let rows: Vec<Vec<String>> = section
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').map(|cell| cell.trim().replace(['`', ' '], "")).collect())
        .collect();
    let kinds = Kind::ALL;
    let ours: Vec<[String; 3]> =
        kinds.iter().map(|k| [(*k as u8).to_string(), format!("{k:?}"), k.bytes_max().to_string()]).collect();
    let told: Vec<[String; 3]> = rows.iter().map(|r| [r[1].clone(), r[2].clone(), r[4].clone()]).collect();
    assert_eq!(told, ours);
}

#[test]
fn the_example_in_the_document_decodes() {
    let (_, rest) = DOCUMENT.split_once("```hex\n").unwrap();
    let (hex, _) = rest.split_once("\n```").unwrap();
    let digits: String = hex.chars().filter(|c| !c.is_whitespace()).collect();
    let bytes: Vec<u8> =
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect();
    let mut decoder = Decoder::new(&[Kind::Request, Kind::Chunk]);
    let mut input = Bytes::from(bytes);
    let request = decoder.decode(&mut input).unwrap().expect("a request");
    let expected = Request::Append { topic: TopicName::new("jobs").unwrap(), durability: None };
    assert_eq!(message::decode::<Request>(&request.payload), Ok(expected));
    let frame = decoder.decode(&mut input).unwrap().expect("a chunk");
    let chunk = Chunk::parse(frame.payload).unwrap();
    let raw = &chunk.bytes()[conveyor::base::chunk::HEADER_BYTES..];
    assert_eq!(EntryView::parse(raw).unwrap().payload, b"hello");
    assert_eq!(decoder.finish(), Ok(()));
    assert!(input.is_empty() && Batch::parse(input).is_err());
}
