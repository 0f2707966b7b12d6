//! docs/protocol.md is true: its example decodes, its numbers are those on the wire.
use bytes::Bytes;
use conveyor::base::EntryRef;
use conveyor::base::{
    Batch, Chunk, Cursor, EntryView, GroupName, PeerId, PeerName, RunId, Seq, TopicId, TopicName,
};
use conveyor::base::{ClusterId, StoreId};
use conveyor::client::{
    About, Blocked, BlockedReason, Gap, GapReason, ReadError, ReadFrom, Refusal, TopicChange,
};
use conveyor::client::{GroupError, GroupInfo, GroupSettings, Member, MemberState};
use conveyor::wire::frame::{Decoder, FrameError, Kind};
use conveyor::wire::message::{self, Hello, PageRequest, ReadRequest, Reply, Request, Welcome};
use conveyor::wire::outcome::{
    Alone, AppendError, Aside, Explained, HeldOf, RemoveError, SyncStatus, TopicInfo, Why,
};

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
        Request::Import { topic: topic.clone() },
        Request::AcceptClock,
        Request::Members,
        Request::HeldOf { peer: PeerId([3; 32]) },
        Request::Remove,
        Request::Asides,
        Request::ReadAside { topic: topic.clone() },
        Request::Sync,
        Request::Alone { wait_ms: 1 },
        Request::Explain { id: EntryRef::parse("jobs/a.01234567/1").unwrap() },
        Request::Group { topic: topic.clone(), group: GroupName::new("g").unwrap(), keeps_leases: true },
        Request::Groups { topic },
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
        Reply::HeldOf(HeldOf::default()),
        Reply::Removed(Err(RemoveError::Itself)),
        Reply::Aside(Aside { topic: None, peer, name: None, run, from, until }),
        Reply::Sync(SyncStatus { missing_entries: 0, behind_ms: None, peers: vec![] }),
        Reply::Alone(Alone { is_known: true, topics: vec![] }),
        Reply::Explained(Explained {
            why: Why::Here,
            writer: None,
            is_writer_removed: false,
            offered_by: vec![],
            asked_of: vec![],
        }),
        Reply::Group { number: 1, answer: Err(GroupError::Stopped) },
        Reply::GroupInfo(Box::new(group_info(topic, peer, cluster))),
    ]
}

fn group_info(topic: TopicId, peer: PeerId, cluster: ClusterId) -> GroupInfo {
    let id = conveyor::base::EntryId { topic, peer, run: RunId(4), seq: Seq(5) };
    GroupInfo {
        name: GroupName::new("g").unwrap(),
        settings: GroupSettings::default(),
        epoch: id,
        since_unix_ms: 1,
        start: Cursor::start(cluster, topic),
        ready_count: 0,
        delayed_count: 0,
        leased_count: 0,
        acked_count: 0,
        hole_count: 0,
        exhausted: vec![],
        waiting_count: 0,
        redelivered: Default::default(),
        dispensers: vec![],
    }
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

/// Where values are declared that travel inside messages.
const DECLARED: &[(&str, &str)] = &[
    ("What clients and peers tell each other", include_str!("../src/wire/outcome.rs")),
    ("What peers say of the cluster", include_str!("../src/wire/outcome/cluster.rs")),
    ("Requests, replies and refusals", include_str!("../src/wire/message.rs")),
    ("Why bytes are no frames", include_str!("../src/wire/frame.rs")),
    ("What entries are, and why bytes are none", include_str!("../src/base/entry.rs")),
    ("Chunks", include_str!("../src/base/chunk.rs")),
    ("Names", include_str!("../src/base/name.rs")),
    (
        "Logs, entries and cursors",
        concat!(include_str!("../src/base/ids.rs"), include_str!("../src/base/cursor.rs")),
    ),
    ("Settings of a topic", include_str!("../src/base/settings.rs")),
    ("Greetings of peers", include_str!("../src/wire/greeting.rs")),
    ("Messages of peers", include_str!("../src/wire/peer.rs")),
    ("Groups", include_str!("../src/wire/group.rs")),
];

/// Source without its comments, and without attributes, of which only those that say that something does not travel leave a
/// trace.
fn bare(source: &str) -> String {
    let lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let text = lines.collect::<Vec<_>>().join(" ");
    let (mut bare, mut rest) = (String::new(), text.as_str());
    while let Some(at) = rest.find("#[") {
        bare.push_str(&rest[..at]);
        let depths = rest[at + 1..].char_indices().scan(0, |depth, (index, c)| {
            *depth += i32::from(c == '[') - i32::from(c == ']');
            Some((*depth, index))
        });
        let (_, end) = depths.into_iter().find(|(depth, _)| *depth == 0).expect("an attribute ends");
        let attribute = &rest[at..at + 2 + end];
        if attribute.contains("Deserialize") {
            bare.push('@');
        } else if attribute == "#[serde(skip)]" {
            bare.push('~');
        }
        rest = &rest[at + 2 + end..];
    }
    bare + rest
}

/// The parts of a list in braces or brackets, which begins behind its opening one.
fn parts(list: &str) -> Vec<String> {
    let (mut depth, mut found) = (0, vec![String::new()]);
    for c in list.chars() {
        match c {
            '{' | '(' | '<' | '[' => depth += 1,
            '}' | ')' | '>' | ']' if depth == 0 => break,
            '}' | ')' | '>' | ']' => depth -= 1,
            ',' if depth == 0 => {
                found.push(String::new());
                continue;
            }
            _ => (),
        }
        found.last_mut().unwrap().push(c);
    }
    let trim = |part: &String| part.split_whitespace().collect::<Vec<_>>().join(" ").replace("pub ", "");
    found.iter().map(trim).filter(|part| !part.is_empty()).collect()
}

/// The fields of a struct or a variant, as the document has them.
fn fields(list: &str) -> String {
    let of = |part: String| format!("`{}`", part.replace("crate::base::", ""));
    parts(list).into_iter().map(of).collect::<Vec<_>>().join(", ")
}

/// The tables of all that one source declares.
fn tables(source: &str) -> String {
    let (bare, mut out, mut structs) = (bare(source), String::new(), String::new());
    for declared in bare.split('@').skip(1) {
        let declared = declared.trim_start();
        let rest = declared.strip_prefix("pub enum ").or(declared.strip_prefix("pub struct "));
        let Some((name, body)) = rest.and_then(|rest| rest.split_once('{')) else { continue };
        // What is a number or some bytes alone is told of in words.
        if !name.trim().chars().all(char::is_alphanumeric) {
            continue;
        }
        if declared.starts_with("pub struct ") {
            structs.push_str(&format!("| `{}` | {} |\n", name.trim(), fields(body)));
            continue;
        }
        out.push_str(&format!("\n| number | `{}` | fields |\n|---|---|---|\n", name.trim()));
        let travel = parts(body).into_iter().filter(|variant| !variant.starts_with('~'));
        for (number, variant) in travel.enumerate() {
            let (name, list) = variant.split_at(variant.find([' ', '(', '=']).unwrap_or(variant.len()));
            let list = list.trim().strip_prefix(['{', '(']).unwrap_or_default();
            out.push_str(&format!("| {number} | `{name}` | {} |\n", fields(list)));
        }
    }
    if !structs.is_empty() {
        out.push_str(&format!("\n| value | fields |\n|---|---|\n{structs}"));
    }
    out
}

#[test]
fn the_values_inside_messages_are_those_in_the_document() {
    let sections = DECLARED.iter().map(|(title, source)| format!("\n### {title}\n{}", tables(source)));
    let ours: String = sections.collect();
    let told = DOCUMENT.split_once("\n## Values inside messages\n").expect("the section").1;
    let told = &told[told.find("\n### ").unwrap_or(told.len())..];
    assert!(told == ours, "write this behind the words of \"Values inside messages\":\n{ours}");
}

#[test]
fn a_value_has_the_number_that_its_place_in_the_table_says() {
    fn number(value: &impl serde::Serialize) -> u8 {
        message::encode(value).unwrap()[0]
    }
    let (topic, id) = (TopicName::new("jobs").unwrap(), String::new);
    assert_eq!(
        [number(&ReadFrom::Start), number(&ReadFrom::Last { count: 1 })],
        [0, told_of("ReadFrom", "Last")]
    );
    assert_eq!(number(&AppendError::Kind), told_of("AppendError", "Kind"));
    assert_eq!(number(&ReadError::IdLost { id: id() }), told_of("ReadError", "IdLost"));
    assert_eq!(number(&TopicChange::Delete { topic }), told_of("TopicChange", "Delete"));
    assert_eq!(number(&Refusal::Stopping), told_of("Refusal", "Stopping"));
    assert_eq!(number(&BlockedReason::Missing), told_of("BlockedReason", "Missing"));
    assert_eq!(number(&FrameError::Flags), told_of("FrameError", "Flags"));
    assert_eq!(number(&GapReason::Damaged), told_of("GapReason", "Damaged"));
}

/// The number that the document gives to a variant.
fn told_of(of: &str, name: &str) -> u8 {
    let rows = numbered(&format!("| number | `{of}` |"));
    rows.into_iter().find(|(_, told)| told == name).unwrap_or_else(|| panic!("{of} has no {name}")).0
}
