//! Telling people what they wait for: once when no peer answers for a while, and once when one does again.
use std::time::{Duration, Instant};

/// How often whoever waits looks.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What passes within this time is not worth a word.
const SILENT_TIME: Duration = Duration::from_secs(2);

/// What was told so far.
#[derive(Debug, Default)]
pub struct Patience {
    since: Option<Instant>,
    is_told: bool,
}

impl Patience {
    /// What to tell now, if anything; `trouble` is what stands in the way at the moment.
    pub fn look(&mut self, now: Instant, trouble: Option<String>) -> Option<String> {
        let Some(trouble) = trouble else {
            self.since = None;
            return std::mem::take(&mut self.is_told).then(|| "a peer answers again; going on".to_owned());
        };
        let since = *self.since.get_or_insert(now);
        if self.is_told || now.duration_since(since) < SILENT_TIME {
            return None;
        }
        self.is_told = true;
        Some(format!("no peer answers ({trouble}); trying again for a minute"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_that_lasts_is_told_once_and_so_is_its_end() {
        let (start, mut patience) = (Instant::now(), Patience::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        let trouble = || Some("127.0.0.1:8011: timed out".to_owned());
        assert_eq!(patience.look(at(0), trouble()), None);
        assert_eq!(patience.look(at(1), None), None, "what passes is not told");
        assert_eq!(patience.look(at(2), trouble()), None);
        let told = patience.look(at(4), trouble()).unwrap();
        assert!(told.contains("no peer answers (127.0.0.1:8011: timed out)"), "{told}");
        assert_eq!(patience.look(at(9), trouble()), None, "once is enough");
        assert!(patience.look(at(10), None).unwrap().contains("answers again"));
        assert_eq!(patience.look(at(11), None), None);
    }
}
