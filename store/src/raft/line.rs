//! Questions to another member over one call that stays open: a message costs a third of what a call costs.
//!
//! One question at a time, each with one answer. Who stops waiting for an answer never gets it for a later
//! question: the call is given up, and the next question opens another.

use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::peers::PeerError;

/// An open call, or none yet.
pub(super) struct Line<Q, A>(Option<Open<Q, A>>);

struct Open<Q, A> {
    questions: mpsc::Sender<Q>,
    answers: Streaming<A>,
}

impl<Q, A> Default for Line<Q, A> {
    fn default() -> Self {
        Self(None)
    }
}

impl<Q: Clone + Send + 'static, A> Line<Q, A> {
    /// Asks over the open call. When there is none, or it turns out to be over, `call` opens one; its questions
    /// come from the stream that it is given. A question may therefore arrive twice.
    ///
    /// # Errors
    /// When a call that was just opened is refused or breaks.
    pub(super) async fn ask<F>(
        &mut self,
        question: Q,
        call: impl FnOnce(ReceiverStream<Q>) -> F,
    ) -> Result<A, PeerError>
    where
        F: Future<Output = Result<Streaming<A>, PeerError>>,
    {
        // Out of its place while an answer is on its way.
        if let Some(mut open) = self.0.take()
            && let Ok(answer) = open.ask(question.clone()).await
        {
            self.0 = Some(open);
            return Ok(answer);
        }
        let (questions, asked) = mpsc::channel(1);
        let opened = call(ReceiverStream::new(asked));
        let mut open = Open { questions, answers: opened.await? };
        let answer = open.ask(question).await?;
        self.0 = Some(open);
        Ok(answer)
    }
}

impl<Q, A> Open<Q, A> {
    async fn ask(&mut self, question: Q) -> Result<A, PeerError> {
        let over = || PeerError::from(tonic::Status::unavailable("the peer ended the call"));
        self.questions.send(question).await.map_err(|_| over())?;
        Ok(self.answers.next().await.ok_or_else(over)??)
    }
}
