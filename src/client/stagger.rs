//! Trying one after the other, the next one as soon as one fails or has not answered for a while.
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::time;

/// How long the next attempt waits for an answer of the one before.
const STAGGER: Duration = Duration::from_millis(300);

/// Makes attempts in turn, and takes the first that succeeds, with its name; else what became of all. Those that were begun go on
/// beside later ones.
pub(super) async fn stagger<K, F, T, E>(
    attempts: impl IntoIterator<Item = (K, F)>,
) -> (Option<(K, T)>, Vec<(K, E)>)
where
    F: Future<Output = Result<T, E>>,
{
    let (mut waiting, mut under_way) = (attempts.into_iter().peekable(), Vec::new());
    let mut tried = Vec::new();
    loop {
        if let Some((name, attempt)) = waiting.next() {
            under_way.push((name, Box::pin(attempt)));
        }
        let mut next = pin!(time::sleep(STAGGER));
        let has_next = waiting.peek().is_some();
        let answered = std::future::poll_fn(|context| {
            for (index, (_, attempt)) in under_way.iter_mut().enumerate() {
                if let Poll::Ready(answer) = attempt.as_mut().poll(context) {
                    return Poll::Ready(Some((index, answer)));
                }
            }
            let is_time = has_next && next.as_mut().poll(context).is_ready();
            if is_time || under_way.is_empty() { Poll::Ready(None) } else { Poll::Pending }
        });
        match answered.await {
            Some((index, Ok(found))) => {
                let (name, _) = under_way.swap_remove(index);
                return (Some((name, found)), tried);
            }
            Some((index, Err(error))) => tried.push((under_way.remove(index).0, error)),
            None if under_way.is_empty() => return (None, tried),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attempt that ends after so many milliseconds.
    async fn attempt(after_ms: u64, answer: Result<(), ()>) -> Result<(), ()> {
        time::sleep(Duration::from_millis(after_ms)).await;
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_one_is_tried_when_one_fails_or_is_silent_and_the_first_that_answers_counts() {
        let begun = time::Instant::now();
        let never = || attempt(1_000_000, Err(()));
        let (found, tried) =
            stagger([("silent", never()), ("refused", attempt(1, Err(()))), ("there", attempt(5, Ok(())))])
                .await;
        assert_eq!((found.map(|found| found.0), tried), (Some("there"), vec![("refused", ())]));
        assert_eq!(begun.elapsed().as_millis(), 306, "300 for the silent one, 1 for the one that refused");
        let (found, _) = stagger([("slow", attempt(400, Ok(()))), ("silent", never())]).await;
        assert_eq!(found.unwrap().0, "slow", "it goes on beside the next one");
        let (found, tried) = stagger([("a", attempt(1, Err(()))), ("b", attempt(1, Err(())))]).await;
        assert!(found.is_none() && tried.len() == 2);
    }
}
