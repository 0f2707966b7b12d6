//! Answers that are due, in the order of what they answer. Those that are ready together leave in one write.
use super::Ended;
use crate::quic::stream::FrameWriter;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tokio::sync::mpsc;

/// Answers of one stream that are due at most.
pub(super) const OWED_COUNT_MAX: usize = 1024;

/// An answer that is due.
pub(super) enum Owed<T: Future> {
    /// It comes when this resolves.
    Ticket(T),
    /// It is known already; taken out when it is given.
    Known(Option<Box<T::Output>>),
}

impl<T: Future> Owed<T> {
    /// What is known already.
    pub(super) fn known(outcome: T::Output) -> Self {
        Self::Known(Some(Box::new(outcome)))
    }
}

impl<T: Future + Unpin> Future for Owed<T> {
    type Output = T::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T::Output> {
        match &mut *self {
            Self::Ticket(ticket) => pin!(ticket).poll(context),
            Self::Known(outcome) => outcome.take().map_or(Poll::Pending, |outcome| Poll::Ready(*outcome)),
        }
    }
}

/// Gives answers as they come due, each by `put`, until nobody owes any more.
pub(super) async fn answer<T: Future + Unpin>(
    writer: &mut FrameWriter,
    mut owed: mpsc::Receiver<Owed<T>>,
    put: impl Fn(&mut FrameWriter, T::Output) -> Result<(), Ended>,
) -> Result<(), Ended> {
    writer.flush().await?;
    let mut next = owed.recv().await;
    while let Some(first) = next.take() {
        put(writer, first.await)?;
        // Those behind it that are ready go with it.
        while let Ok(mut following) = owed.try_recv() {
            match Pin::new(&mut following).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(outcome) => put(writer, outcome)?,
                Poll::Pending => {
                    next = Some(following);
                    break;
                }
            }
        }
        writer.flush().await?;
        if next.is_none() {
            next = owed.recv().await;
        }
    }
    Ok(())
}
