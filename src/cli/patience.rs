//! Telling people what they wait for: once when no peer answers for a while, and once when one does again; once when a peer
//! answers, and not what was asked; and once when what they asked for is not there yet.
use std::time::{Duration, Instant};

/// How often whoever waits looks.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What passes within this time is not worth a word.
const SILENT_TIME: Duration = Duration::from_secs(2);

/// What stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// No peer answers, for this reason.
    Away(String),
    /// A peer answers, and has not done yet what was asked: in full.
    Slow(String),
}

/// What was told so far.
#[derive(Debug, Default)]
pub struct Patience {
    since: Option<Instant>,
    told: Option<Trouble>,
}

impl Patience {
    /// What to tell now, if anything; `trouble` is what stands in the way at the moment.
    pub fn look(&mut self, now: Instant, trouble: Option<Trouble>) -> Option<String> {
        let was_away = matches!(self.told, Some(Trouble::Away(_)));
        let Some(trouble) = trouble else {
            (self.since, self.told) = (None, None);
            return was_away.then(|| "a peer answers again; going on".to_owned());
        };
        if !self.is_worth_a_word(now) || was_away || self.told.as_ref() == Some(&trouble) {
            return None;
        }
        let words = match &trouble {
            Trouble::Away(reason) => format!("no peer answers ({reason}); trying again for a minute"),
            // Said once, also where what is waited for changes a little.
            Trouble::Slow(_) if self.told.is_some() => return None,
            Trouble::Slow(words) => words.clone(),
        };
        self.told = Some(trouble);
        Some(words)
    }

    /// Whether what is waited for has been waited for so long that people are told; the wait begins with the first time that
    /// this is asked.
    pub fn is_worth_a_word(&mut self, now: Instant) -> bool {
        now.duration_since(*self.since.get_or_insert(now)) >= SILENT_TIME
    }
}

/// Whether it was told that nothing is there yet.
#[derive(Debug)]
pub struct Quiet {
    since: Instant,
    is_told: bool,
}

impl Quiet {
    /// Begins to wait. Where `is_told`, whoever waits knows already that nothing may be there.
    pub fn new(since: Instant, is_told: bool) -> Self {
        Self { since, is_told }
    }

    /// Something came: there is nothing to tell any more.
    pub fn end(&mut self) {
        self.is_told = true;
    }

    /// What to tell now, if anything; `is_waiting` says that all that is held was looked at and nothing was found.
    pub fn look(&mut self, now: Instant, is_waiting: bool) -> Option<&'static str> {
        if self.is_told || !is_waiting || now.duration_since(self.since) < SILENT_TIME {
            return None;
        }
        self.is_told = true;
        Some("nothing that was asked for is held yet; waiting for new entries")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_that_lasts_is_told_once_and_so_is_its_end() {
        let (start, mut patience) = (Instant::now(), Patience::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        let trouble = || Some(Trouble::Away("127.0.0.1:8011: timed out".to_owned()));
        assert_eq!(patience.look(at(0), trouble()), None);
        assert_eq!(patience.look(at(1), None), None, "what passes is not told");
        assert_eq!(patience.look(at(2), trouble()), None);
        let told = patience.look(at(4), trouble()).unwrap();
        assert!(told.contains("no peer answers (127.0.0.1:8011: timed out)"), "{told}");
        assert_eq!(patience.look(at(9), trouble()), None, "once is enough");
        assert!(patience.look(at(10), None).unwrap().contains("answers again"));
        assert_eq!(patience.look(at(11), None), None);
    }

    #[test]
    fn a_peer_that_answers_and_has_not_done_it_yet_is_not_called_away() {
        let (start, mut patience) = (Instant::now(), Patience::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        let slow = |words: &str| Some(Trouble::Slow(words.to_owned()));
        assert_eq!(patience.look(at(0), slow("waits for beta")), None);
        assert_eq!(patience.look(at(2), slow("waits for beta")).as_deref(), Some("waits for beta"));
        assert_eq!(patience.look(at(3), slow("waits for gamma")), None, "once is enough");
        let away = patience.look(at(4), Some(Trouble::Away("timed out".to_owned())));
        assert!(away.is_some_and(|told| told.contains("no peer answers")), "that is something else");
        assert!(patience.look(at(5), None).is_some_and(|told| told.contains("answers again")));
        assert_eq!((patience.look(at(6), slow("x")), patience.look(at(9), None)), (None, None));
    }

    #[test]
    fn that_nothing_is_there_is_told_once_and_not_at_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut quiet = Quiet::new(start, false);
        assert_eq!((quiet.look(at(1), true), quiet.look(at(3), false)), (None, None));
        assert!(quiet.look(at(3), true).is_some_and(|told| told.contains("waiting for new entries")));
        assert_eq!(quiet.look(at(9), true), None, "once is enough");
        assert_eq!(Quiet::new(start, true).look(at(9), true), None, "who knows it is not told");
    }
}
