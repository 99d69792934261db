//! What other name servers answered, for as long as they allow and no longer than the cluster likes. A data structure:
//! must never ask anybody or look at a clock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{LowerName, RData, RecordType};
use tokio::time::Instant;

/// The bounds of the memory.
#[derive(Debug, Clone, Copy)]
pub struct CacheSettings {
    /// How many answers are remembered; none with zero.
    pub capacity: usize,
    /// For how long at most.
    pub longest: Duration,
    /// For how long at most it is remembered that something is not there.
    pub longest_negative: Duration,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self { capacity: 10_000, longest: Duration::from_secs(30), longest_negative: Duration::from_secs(30) }
    }
}

/// A question, in a form that is equal for all who ask the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    pub(crate) name: LowerName,
    pub(crate) kind: RecordType,
    pub(crate) dnssec_ok: bool,
    pub(crate) checking_disabled: bool,
}

#[derive(Debug)]
pub(crate) struct Cache {
    settings: CacheSettings,
    answers: HashMap<Question, Remembered>,
    /// By when they end, to make room.
    ends: BTreeMap<(Instant, u64), Question>,
    /// Tells apart what ends at the same time.
    counter: u64,
}

#[derive(Debug)]
struct Remembered {
    response: Arc<Message>,
    since: Instant,
    end: (Instant, u64),
}

impl Cache {
    pub(crate) fn new(settings: CacheSettings) -> Self {
        Self { settings, answers: HashMap::new(), ends: BTreeMap::new(), counter: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.answers.len()
    }

    /// The answer as it would come now, with what is left of its time.
    pub(crate) fn get(&self, question: &Question, now: Instant) -> Option<Message> {
        let remembered = self.answers.get(question).filter(|remembered| remembered.end.0 > now)?;
        let age = u32::try_from((now - remembered.since).as_secs()).unwrap_or(u32::MAX);
        let mut response = Message::clone(&remembered.response);
        let left = u32::try_from((remembered.end.0 - now).as_secs()).unwrap_or(u32::MAX);
        let sections = [&mut response.answers, &mut response.authorities, &mut response.additionals];
        for record in sections.into_iter().flatten() {
            record.ttl = record.ttl.saturating_sub(age).min(left.max(1));
        }
        Some(response)
    }

    /// Remembers an answer, if it may be; what ends first makes room.
    pub(crate) fn put(&mut self, question: Question, response: Arc<Message>, now: Instant) {
        let Some(lifetime) = lifetime(&response, &self.settings) else { return };
        self.forget(&question);
        while self.answers.len() >= self.settings.capacity {
            let Some((_, first)) = self.ends.pop_first() else { return };
            self.answers.remove(&first);
        }
        self.counter += 1;
        let end = (now + lifetime, self.counter);
        self.ends.insert(end, question.clone());
        self.answers.insert(question, Remembered { response, since: now, end });
    }

    fn forget(&mut self, question: &Question) {
        if let Some(old) = self.answers.remove(question) {
            self.ends.remove(&old.end);
        }
    }
}

/// For how long an answer may be remembered; an answer without an end, such as an error, not at all.
fn lifetime(response: &Message, settings: &CacheSettings) -> Option<Duration> {
    let code = response.metadata.response_code;
    let seconds = if code == ResponseCode::NoError && !response.answers.is_empty() {
        let shortest = response.answers.iter().map(|record| record.ttl).min()?;
        Duration::from_secs(shortest.into()).min(settings.longest)
    } else if matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        // RFC 2308, section 5.
        let negative = response.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
            _ => None,
        })?;
        Duration::from_secs(negative.into()).min(settings.longest_negative)
    } else {
        return None;
    };
    (!seconds.is_zero()).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::rdata::{A, SOA};
    use hickory_proto::rr::{Name, Record};

    use super::*;

    fn question(name: &str) -> Question {
        let name: Name = name.parse().unwrap();
        Question {
            name: LowerName::new(&name),
            kind: RecordType::A,
            dnssec_ok: false,
            checking_disabled: false,
        }
    }

    fn response(code: ResponseCode, ttl: Option<u32>, minimum: Option<u32>) -> Arc<Message> {
        let mut message = Message::response(1, OpCode::Query);
        message.metadata.response_code = code;
        let name: Name = "a.example.".parse().unwrap();
        if let Some(ttl) = ttl {
            message.answers.push(Record::from_rdata(name.clone(), ttl, RData::A(A::new(1, 2, 3, 4))));
        }
        if let Some(minimum) = minimum {
            let soa = SOA::new(name.clone(), name.clone(), 1, 2, 3, 4, minimum);
            message.authorities.push(Record::from_rdata(name, 900, RData::SOA(soa)));
        }
        Arc::new(message)
    }

    #[test]
    fn answers_live_as_long_as_allowed_and_errors_not_at_all() {
        let settings = CacheSettings::default();
        for (code, ttl, minimum, seconds) in [
            (ResponseCode::NoError, Some(5), None, Some(5)),
            (ResponseCode::NoError, Some(3600), None, Some(30)),
            (ResponseCode::NoError, Some(0), None, None),
            (ResponseCode::NXDomain, None, Some(7), Some(7)),
            (ResponseCode::NoError, None, Some(3600), Some(30)),
            (ResponseCode::NXDomain, None, None, None),
            (ResponseCode::ServFail, None, Some(7), None),
            (ResponseCode::Refused, Some(5), None, None),
        ] {
            let found = lifetime(&response(code, ttl, minimum), &settings);
            assert_eq!(found, seconds.map(Duration::from_secs), "{code:?} {ttl:?} {minimum:?}");
        }
    }

    #[test]
    fn the_time_that_is_left_is_told_and_after_it_nothing_is() {
        let mut cache = Cache::new(CacheSettings::default());
        let start = Instant::now();
        cache.put(question("a.example."), response(ResponseCode::NoError, Some(10), None), start);
        let ttl = |seconds| {
            let found = cache.get(&question("A.Example."), start + Duration::from_secs(seconds));
            found.map(|message| message.answers[0].ttl)
        };
        assert_eq!(ttl(0), Some(10));
        assert_eq!(ttl(4), Some(6));
        assert_eq!(ttl(10), None);
    }

    #[test]
    fn a_long_answer_is_not_told_to_live_longer_than_it_is_remembered() {
        let mut cache = Cache::new(CacheSettings::default());
        let start = Instant::now();
        cache.put(question("a.example."), response(ResponseCode::NoError, Some(3600), None), start);
        let found = cache.get(&question("a.example."), start + Duration::from_secs(10)).unwrap();
        assert_eq!(found.answers[0].ttl, 20);
    }

    #[test]
    fn a_full_memory_forgets_what_ends_first() {
        let mut cache = Cache::new(CacheSettings { capacity: 2, ..CacheSettings::default() });
        let now = Instant::now();
        for (name, ttl) in [("a.", 20), ("b.", 5), ("a.", 25), ("c.", 10)] {
            cache.put(question(name), response(ResponseCode::NoError, Some(ttl), None), now);
        }
        assert!(cache.get(&question("b."), now).is_none());
        assert!(cache.get(&question("a."), now).is_some() && cache.get(&question("c."), now).is_some());
        assert_eq!((cache.len(), cache.ends.len()), (2, 2));
        let mut none = Cache::new(CacheSettings { capacity: 0, ..CacheSettings::default() });
        none.put(question("a."), response(ResponseCode::NoError, Some(20), None), now);
        assert_eq!(none.len(), 0);
    }
}
