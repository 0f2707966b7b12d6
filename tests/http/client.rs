//! As much of an HTTP client as these tests need: one request a connection, and events as they come.
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that this is a problem of that kind, with what every problem has.
    #[track_caller]
    pub fn is_problem(&self, kind: &str) -> serde_json::Value {
        let table = conveyor::api::http::problem::KINDS;
        let (_, status, title) =
            table.iter().find(|(of, ..)| *of == kind).unwrap_or_else(|| panic!("{kind} is in the table"));
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.text());
        let problem = self.json();
        assert_eq!(problem["type"], format!("conveyor:problem/{kind}"), "{problem}");
        assert_eq!((self.status, &problem["title"]), (*status, &serde_json::json!(title)), "{problem}");
        assert_eq!(problem["status"], *status, "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
        problem
    }
}

/// Sends bytes as they are, and reads until the other side closes.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // A request that is refused on its head may be cut off in its body.
    let _ = socket.write_all(bytes).await;
    answer(socket).await
}

/// Reads one answer from a connection that is closed behind it.
pub async fn answer(mut socket: impl AsyncRead + Unpin) -> Answer {
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes).await;
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("{bytes:?}"));
    let (status, headers) = head(std::str::from_utf8(&bytes[..end]).unwrap());
    let body = bytes[end + 4..].to_vec();
    let mut answer = Answer { status, headers, body };
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = unchunk(&answer.body);
    }
    answer
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap().trim(), 16).unwrap_or(0);
        let Some(chunk) = bytes.get(end + 2..end + 2 + size) else { break };
        out.extend_from_slice(chunk);
        bytes = bytes.get(end + 4 + size..).unwrap_or_default();
    }
    out
}

fn head(text: &str) -> (u16, Vec<(String, String)>) {
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    (status, lines.map(header).collect())
}

/// The head of a request.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body_bytes: usize) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: peer\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if body_bytes > 0 || method != "GET" {
        text.push_str(&format!("content-length: {body_bytes}\r\n"));
    }
    text + "\r\n"
}

/// One event of a stream; `:` and `retry` lines are passed over.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub id: String,
    pub name: String,
    pub data: String,
}

impl Event {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

/// A stream of events under way.
pub struct Events {
    reader: BufReader<TcpStream>,
    text: Vec<u8>,
}

impl Events {
    pub async fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request("GET", path, headers, 0).as_bytes()).await.unwrap();
        let mut reader = BufReader::new(socket);
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut text).await.unwrap() > 0, "{text}");
        }
        let (status, headers) = head(text.trim_end());
        assert_eq!(status, 200, "{headers:?}");
        assert!(headers.contains(&("content-type".to_owned(), "text/event-stream".to_owned())));
        assert!(headers.contains(&("cache-control".to_owned(), "no-store".to_owned())));
        Self { reader, text: Vec::new() }
    }

    /// The next event; none once the stream has ended.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let lines = String::from_utf8(self.text.drain(..end + 2).collect()).unwrap();
                let mut event = Event::default();
                for (field, value) in lines.lines().filter_map(|line| line.split_once(": ")) {
                    match field {
                        "id" => event.id = value.to_owned(),
                        "event" => event.name = value.to_owned(),
                        "data" => event.data = value.to_owned(),
                        _ => {}
                    }
                }
                return Some(event);
            }
            let mut size = String::new();
            self.reader.read_line(&mut size).await.ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok().filter(|size| *size > 0)?;
            let mut chunk = vec![0; size + 2];
            self.reader.read_exact(&mut chunk).await.ok()?;
            self.text.extend_from_slice(&chunk[..size]);
        }
    }

    /// The next entry, which must be that.
    pub async fn expect(&mut self, payload: &str) -> Event {
        let event = self.next().await.expect("the stream goes on");
        assert_eq!(event.json()["payload"], payload, "{event:?}");
        event
    }
}
