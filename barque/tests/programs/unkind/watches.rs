//! A watch on its way to a client, with what goes wrong with it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};

use super::answers;
use super::faults::{Chosen, Fault, Faults};
use super::proxy::{Body, Broken};

/// How long a silent watch is silent.
const SILENCE: Duration = Duration::from_secs(2);

/// Lines of a watch, one after the other.
struct Lines {
    from: Incoming,
    begun: Vec<u8>,
    whole: VecDeque<Bytes>,
}

impl Lines {
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        loop {
            if let Some(line) = self.whole.pop_front() {
                return Some(Ok(line));
            }
            let frame = match self.from.frame().await? {
                Ok(frame) => frame,
                Err(error) => return Some(Err(error.into())),
            };
            let Ok(data) = frame.into_data() else { continue };
            self.begun.extend_from_slice(&data);
            while let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
                let rest = self.begun.split_off(end + 1);
                self.whole.push_back(std::mem::replace(&mut self.begun, rest).into());
            }
        }
    }
}

struct Watch {
    lines: Lines,
    chosen: Chosen,
    faults: Arc<Faults>,
    events: u64,
    /// What comes after this is nothing, or that the connection breaks.
    end: Option<Result<(), Broken>>,
}

/// The watch with its fault.
pub(crate) fn with_fault(from: Incoming, chosen: Chosen, faults: Arc<Faults>) -> Body {
    let lines = Lines { from, begun: Vec::new(), whole: VecDeque::new() };
    let watch = Watch { lines, chosen, faults, events: 0, end: None };
    let frames = stream::unfold(watch, |mut watch| async {
        let item = watch.next().await?;
        Some((item.map(Frame::data), watch))
    });
    StreamBody::new(Box::pin(frames)).boxed()
}

impl Watch {
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        match self.end.take() {
            Some(Ok(())) => {
                self.end = Some(Ok(()));
                return None;
            }
            Some(Err(broken)) => {
                self.end = Some(Ok(()));
                return Some(Err(broken));
            }
            None => {}
        }
        let now = self.events == self.chosen.events;
        if now && self.chosen.fault == Fault::WatchEnds {
            return self.happens(Ok(())).map(Ok);
        }
        if now && self.chosen.fault == Fault::WatchGone {
            self.happens(Ok(()));
            return Some(Ok(answers::too_old()));
        }
        loop {
            let line = match self.lines.next().await? {
                Ok(line) => line,
                Err(broken) => return Some(Err(broken)),
            };
            let loses = self.chosen.fault == Fault::WatchWithoutBookmarks;
            if loses && holds(&line, b"\"type\":\"BOOKMARK\"") {
                self.faults.happened(Fault::WatchWithoutBookmarks);
                if holds(&line, b"initial-events-end") {
                    self.end = Some(Ok(()));
                    return Some(Err(Broken::Meant("a watch breaks before its list has ended")));
                }
                continue;
            }
            self.events += 1;
            match self.chosen.fault {
                Fault::WatchBreaks if now => {
                    self.happens(Err(Broken::Meant("a watch breaks")));
                    return Some(Ok(line.slice(..line.len() / 2)));
                }
                Fault::WatchSilent if now => {
                    self.faults.happened(Fault::WatchSilent);
                    tokio::time::sleep(SILENCE).await;
                    return Some(Ok(line));
                }
                _ => return Some(Ok(line)),
            }
        }
    }

    fn happens(&mut self, end: Result<(), Broken>) -> Option<Bytes> {
        self.faults.happened(self.chosen.fault);
        self.end = Some(end);
        None
    }
}

fn holds(line: &[u8], text: &[u8]) -> bool {
    line.windows(text.len()).any(|window| window == text)
}
