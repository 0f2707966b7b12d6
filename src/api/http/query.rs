//! What stands behind the `?` of an address. Nothing is passed over: a word that nobody knows is an error.
use super::problem::Problem;
use crate::base::units::parse_ms;
use crate::base::{Cursor, percent};
use crate::runtime::{SystemClock, WallClock as _};
use crate::wire::message::WAIT_MS_MAX;
use crate::wire::outcome::ReadFrom;
use crate::wire::when::parse_from;
use std::time::Duration;

/// The words and their values, in order.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `name=value&…`, as forms on web pages write it.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let decode = |part: &str| {
            let bytes = percent::decode(part.replace('+', " ").as_bytes());
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            text.ok_or_else(|| {
                Problem::malformed("what follows the \"?\" of the address is not percent-encoded UTF-8")
            })
        };
        let parts = text.split('&').filter(|part| !part.is_empty());
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Ok((decode(name)?, decode(value)?))
        };
        parts.map(pair).collect::<Result<_, Problem>>().map(Self)
    }

    /// That no other words stand here than these (and `token`, which is read before), each once.
    pub(super) fn only(&self, names: &[&str]) -> Result<(), Problem> {
        for (index, (name, _)) in self.0.iter().enumerate() {
            if name != "token" && !names.contains(&name.as_str()) {
                let known = if names.is_empty() {
                    "none is known here".to_owned()
                } else {
                    format!("known are {}", names.join(", "))
                };
                return Err(Problem::malformed(format!("the address has an unknown word {name:?}; {known}")));
            }
            if self.0[..index].iter().any(|(before, _)| before == name) {
                return Err(Problem::malformed(format!("{name:?} stands twice in the address")));
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }

    /// Where a read begins: `cursor` or `from`, else `otherwise`.
    pub(super) fn begin(&self, otherwise: ReadFrom) -> Result<ReadFrom, Problem> {
        match (self.get("cursor"), self.get("from")) {
            (Some(_), Some(_)) => Err(Problem::malformed("give cursor or from, not both")),
            (Some(word), None) => Ok(ReadFrom::Cursor(word.parse::<Cursor>()?)),
            (None, Some(text)) => place(text),
            (None, None) => Ok(otherwise),
        }
    }

    /// A whole number from 1 to `max`.
    pub(super) fn count(&self, name: &str, otherwise: u32, max: u32) -> Result<u32, Problem> {
        let Some(text) = self.get(name) else { return Ok(otherwise) };
        let count = text.parse().ok().filter(|count| (1..=max).contains(count));
        count.ok_or_else(|| Problem::new("limit", format!("{name} is a whole number from 1 to {max}")))
    }

    /// How long to wait: a duration such as `30s`, or milliseconds.
    pub(super) fn wait(&self) -> Result<Duration, Problem> {
        let Some(text) = self.get("wait") else { return Ok(Duration::ZERO) };
        match parse_ms(text) {
            Ok(ms) if ms <= WAIT_MS_MAX => Ok(Duration::from_millis(ms)),
            Ok(_) => Err(Problem::new("limit", format!("wait is at most {WAIT_MS_MAX} ms; ask again"))),
            Err(bad) => Err(Problem::malformed(format!("wait: {bad}"))),
        }
    }

    /// `true` or `false`; a word without a value is true.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(_) => Err(Problem::malformed(format!("{name} is true or false"))),
        }
    }
}

/// A place in a topic: start, now, an id, a time, a duration back, a cursor.
pub(super) fn place(text: &str) -> Result<ReadFrom, Problem> {
    parse_from(text, SystemClock.unix_ms()).map_err(Problem::malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_none_is_passed_over() {
        let query = Query::parse("key=a%2Bb+c&wait=1.5s&limit=7&token=x").unwrap();
        assert_eq!((query.get("key"), query.get("from")), (Some("a+b c"), None));
        assert_eq!(query.wait().unwrap(), Duration::from_millis(1500));
        assert_eq!(query.count("limit", 1, 10).unwrap(), 7);
        assert!(query.only(&["key", "wait", "limit"]).is_ok() && query.only(&["key", "wait"]).is_err());
        assert!(Query::parse("a=1&a=2").unwrap().only(&["a"]).is_err());
        for bad in ["a=%", "a=%ff", "%zz"] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
        for bad in ["wait=1h", "wait=soon", "limit=0", "limit=11", "limit=x"] {
            let query = Query::parse(bad).unwrap();
            assert!(query.wait().is_err() || query.count("limit", 1, 10).is_err(), "{bad}");
        }
    }
}
