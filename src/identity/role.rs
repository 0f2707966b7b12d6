//! What a certificate says its holder may do, as one URI among its subject alternative names.
//!
//! ```text
//! conveyor://<cluster, 32 hex digits>/peer?name=<peer name>
//! conveyor://<cluster, 32 hex digits>/client?rights=r,w,a&prefix=<percent-encoded>&prefix=…
//! ```
//!
//! No prefix means all topics. A certificate with no such URI, or with two, has no role and may do nothing.
use crate::base::percent::{self, Percent};
use crate::base::{ClusterId, PeerName, TopicName};

/// Why a certificate's names give no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// None of them is a URI of Conveyor, or more than one is.
    #[error("the certificate names {count} Conveyor roles instead of one")]
    Count {
        /// How many there are.
        count: usize,
    },
    /// The URI cannot be read.
    #[error("{uri:?} is no role that is known here")]
    Malformed {
        /// The URI as it stands in the certificate.
        uri: String,
    },
}

/// What a client may do, and with which topics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rights {
    /// Read topics.
    pub read: bool,
    /// Append to topics.
    pub write: bool,
    /// Create, set and delete topics; import; accept the clock; read Conveyor's own topics.
    pub admin: bool,
    /// Topics whose name begins with one of these. Empty: all topics.
    pub prefixes: Vec<String>,
}

impl Rights {
    /// Everything, everywhere: what the client made at a first start may do.
    pub fn all() -> Self {
        Self { read: true, write: true, admin: true, prefixes: Vec::new() }
    }

    fn covers(&self, topic: &TopicName) -> bool {
        let within = |prefix: &String| topic.as_str().starts_with(prefix.as_str());
        self.prefixes.is_empty() || self.prefixes.iter().any(within)
    }

    /// Whether the holder may read `topic`. Conveyor's own topics are for administrators.
    pub fn allows_read(&self, topic: &TopicName) -> bool {
        self.read && self.covers(topic) && (self.admin || !topic.is_system())
    }

    /// Whether the holder may append to `topic`. No client appends to Conveyor's own topics.
    pub fn allows_write(&self, topic: &TopicName) -> bool {
        self.write && self.covers(topic) && !topic.is_system()
    }

    /// Whether the holder may change settings of `topic`, delete it, or import into it.
    pub fn allows_admin(&self, topic: &TopicName) -> bool {
        self.admin && self.covers(topic) && !topic.is_system()
    }

    /// Whether the holder may do what concerns the peer and not one topic.
    pub fn allows_peer_admin(&self) -> bool {
        self.admin && self.prefixes.is_empty()
    }
}

/// Who the holder of a certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A peer of the cluster.
    Peer {
        /// What people call it.
        name: PeerName,
    },
    /// A client.
    Client(Rights),
}

impl Role {
    /// The URI that says so in a certificate of `cluster`.
    pub fn to_uri(&self, cluster: ClusterId) -> String {
        match self {
            Self::Peer { name } => format!("conveyor://{cluster}/peer?name={name}"),
            Self::Client(rights) => {
                let letters = [(rights.read, "r"), (rights.write, "w"), (rights.admin, "a")];
                let held: Vec<&str> = letters.into_iter().filter_map(|(held, l)| held.then_some(l)).collect();
                let mut uri = format!("conveyor://{cluster}/client?rights={}", held.join(","));
                for prefix in &rights.prefixes {
                    uri.push_str(&format!("&prefix={}", Percent { bytes: prefix.as_bytes(), keep: b"/" }));
                }
                uri
            }
        }
    }

    /// The one role among a certificate's URIs; those of other schemes are passed over.
    pub fn among<'a>(uris: impl Iterator<Item = &'a str>) -> Result<(ClusterId, Self), RoleError> {
        let ours: Vec<&str> = uris.filter(|uri| uri.starts_with("conveyor://")).collect();
        match ours[..] {
            [uri] => parse(uri).ok_or_else(|| RoleError::Malformed { uri: uri.to_owned() }),
            _ => Err(RoleError::Count { count: ours.len() }),
        }
    }
}

fn parse(uri: &str) -> Option<(ClusterId, Role)> {
    let (cluster, rest) = uri.strip_prefix("conveyor://")?.split_once('/')?;
    let cluster = ClusterId::parse(cluster)?;
    let (kind, query) = rest.split_once('?')?;
    let pairs: Option<Vec<(&str, &str)>> = query.split('&').map(|pair| pair.split_once('=')).collect();
    let role = match (kind, &pairs?[..]) {
        ("peer", [("name", name)]) => Role::Peer { name: PeerName::new(name).ok()? },
        ("client", [("rights", letters), prefixes @ ..]) => Role::Client(parse_rights(letters, prefixes)?),
        _ => return None,
    };
    Some((cluster, role))
}

fn parse_rights(letters: &str, prefixes: &[(&str, &str)]) -> Option<Rights> {
    let mut rights = Rights::default();
    for letter in letters.split(',').filter(|letter| !letter.is_empty()) {
        match letter {
            "r" => rights.read = true,
            "w" => rights.write = true,
            "a" => rights.admin = true,
            _ => return None,
        }
    }
    for (name, value) in prefixes {
        // An unknown word must not widen what the certificate allows, so it voids the whole.
        let prefix = if *name == "prefix" {
            String::from_utf8(percent::decode(value.as_bytes())?).ok()?
        } else {
            return None;
        };
        rights.prefixes.push(prefix);
    }
    Some(rights)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId([0xab; 16]);

    fn topic(name: &str) -> TopicName {
        TopicName::system(name).unwrap()
    }

    #[test]
    fn a_role_survives_being_a_uri() {
        let rights =
            Rights { read: true, write: false, admin: true, prefixes: vec!["a&b=%é/".into(), "".into()] };
        for role in [
            Role::Peer { name: PeerName::new("alpha").unwrap() },
            Role::Client(Rights::all()),
            Role::Client(Rights::default()),
            Role::Client(rights),
        ] {
            let uri = role.to_uri(CLUSTER);
            assert!(uri.is_ascii());
            assert_eq!(Role::among(["https://x", &uri].into_iter()), Ok((CLUSTER, role)));
        }
    }

    #[test]
    fn what_cannot_be_read_in_full_allows_nothing() {
        let c = CLUSTER.to_string();
        for tail in [
            "",
            "/peer",
            "/peer?name=A",
            "/peer?name=a&name=b",
            "/client",
            "/client?rights=x",
            "/client?rights=r&until=3",
            "/client?rights=r&prefix=%4",
            "/client?rights=r&prefix=%FF",
            "/admin?rights=r",
        ] {
            let uri = format!("conveyor://{c}{tail}");
            assert_eq!(Role::among([&*uri].into_iter()), Err(RoleError::Malformed { uri: uri.clone() }));
        }
        let peer = Role::Peer { name: PeerName::new("a").unwrap() }.to_uri(CLUSTER);
        assert_eq!(Role::among([&*peer, &*peer].into_iter()), Err(RoleError::Count { count: 2 }));
        assert_eq!(Role::among(std::iter::empty()), Err(RoleError::Count { count: 0 }));
    }

    #[test]
    fn rights_hold_for_the_topics_they_name() {
        let all = Rights::all();
        assert!(all.allows_read(&topic("jobs")) && all.allows_write(&topic("jobs")));
        assert!(all.allows_read(&topic("$catalog")) && !all.allows_write(&topic("$catalog")));
        let some = Rights { read: true, write: true, admin: false, prefixes: vec!["jobs/".into()] };
        assert!(some.allows_read(&topic("jobs/mail")) && !some.allows_read(&topic("jobs")));
        assert!(!some.allows_admin(&topic("jobs/mail")) && !some.allows_peer_admin());
        let reader = Rights { read: true, ..Rights::default() };
        assert!(!reader.allows_write(&topic("jobs")) && !reader.allows_read(&topic("$catalog")));
    }
}
