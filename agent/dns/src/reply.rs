//! From a request's bytes to a reply's, as far as nobody else has to be asked. Pure: must never let a reply be larger than
//! the client takes.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record, RecordType};

use crate::answer::{Answer, answer};
use crate::names::Names;

/// How many times one name may be another name for the next.
const ALIASES: usize = 8;

/// The largest datagram that is sent: one that passes every network without being split.
const DATAGRAM: u16 = 1232;

/// What is done with what came.
#[derive(Debug)]
pub(crate) enum Read {
    /// It is a question.
    Question(Box<Message>),
    /// It is answered with an error.
    Refuse(Box<Message>),
    /// It is not answered: it is a reply itself, or nothing at all.
    Ignore,
}

/// Reads what came.
pub(crate) fn read(bytes: &[u8]) -> Read {
    let Ok(request) = Message::from_vec(bytes) else {
        // The identifier is in the first bytes, and whether it is a reply in the next ones.
        return match bytes {
            [high, low, flags, ..] if bytes.len() >= 12 && flags & 0x80 == 0 => {
                let id = u16::from_be_bytes([*high, *low]);
                Read::Refuse(Box::new(Message::error_msg(id, OpCode::Query, ResponseCode::FormErr)))
            }
            _ => Read::Ignore,
        };
    };
    if request.metadata.message_type == MessageType::Response {
        return Read::Ignore;
    }
    let refuse = |code| Read::Refuse(Box::new(reply_to(&request, code)));
    if request.metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return refuse(ResponseCode::BADVERS);
    }
    match request.queries.as_slice() {
        [query] if query.query_class() != DNSClass::IN => refuse(ResponseCode::Refused),
        [query] if matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR) => {
            refuse(ResponseCode::Refused)
        }
        [_] => Read::Question(Box::new(request)),
        _ => refuse(ResponseCode::FormErr),
    }
}

/// A reply without records.
pub(crate) fn reply_to(request: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
    reply.metadata.recursion_desired = request.metadata.recursion_desired;
    reply.metadata.checking_disabled = request.metadata.checking_disabled;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    reply.queries.clone_from(&request.queries);
    if let Some(asked) = &request.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(DATAGRAM);
        edns.set_dnssec_ok(asked.flags().dnssec_ok);
        reply.set_edns(edns);
    }
    reply
}

/// What the cluster's names say to a question.
#[derive(Debug)]
pub(crate) enum Local {
    /// The reply.
    Reply(Message),
    /// Another name server has to be asked this, after these records.
    Ask { chain: Vec<Record>, query: Query },
}

/// The reply to a question from the cluster's names, following other names as far as they are the cluster's.
pub(crate) fn local(request: &Message, query: &Query, names: &Names) -> Local {
    let mut reply = reply_to(request, ResponseCode::NoError);
    let mut chain = Vec::new();
    let mut query = query.clone();
    for _ in 0..ALIASES {
        match answer(&query, names) {
            Answer::Records { answers, additionals } => {
                chain.extend(answers);
                reply.additionals = additionals;
            }
            Answer::Alias { record, target } => {
                chain.push(record);
                query.set_name(target);
                continue;
            }
            Answer::NoData(soa) => reply.authorities.push(soa),
            Answer::NoName(soa) => {
                reply.metadata.response_code = ResponseCode::NXDomain;
                reply.authorities.push(soa);
            }
            Answer::Elsewhere => return Local::Ask { chain, query },
            Answer::NotReady => reply.metadata.response_code = ResponseCode::ServFail,
        }
        reply.metadata.authoritative = reply.metadata.response_code != ResponseCode::ServFail;
        reply.answers = chain;
        return Local::Reply(reply);
    }
    // A circle of names.
    Local::Reply(reply_to(request, ResponseCode::ServFail))
}

/// The reply with what another name server said.
pub(crate) fn forwarded(request: &Message, chain: Vec<Record>, response: &Message) -> Message {
    let mut reply = reply_to(request, response.metadata.response_code);
    reply.metadata.authentic_data = response.metadata.authentic_data && chain.is_empty();
    reply.answers = chain;
    reply.answers.extend(response.answers.iter().cloned());
    reply.authorities.clone_from(&response.authorities);
    reply.additionals.clone_from(&response.additionals);
    reply
}

/// How many bytes of a datagram the client takes.
pub(crate) fn datagram(request: &Message) -> usize {
    let payload = request.edns.as_ref().map_or(512, Edns::max_payload);
    usize::from(payload.clamp(512, DATAGRAM))
}

/// The reply's bytes, at most so many: first what nobody asked for is left out, then answers, which is told; some clients
/// go on with the ones that are there. None if the reply has no form at all.
pub(crate) fn encode(reply: &Message, limit: usize) -> Option<Vec<u8>> {
    let fits = |bytes: &Vec<u8>| bytes.len() <= limit;
    let encode =
        |reply: &Message| reply.to_vec().map_err(|error| tracing::debug!(%error, "a reply has no form")).ok();
    let whole = encode(reply)?;
    if fits(&whole) {
        return Some(whole);
    }
    let mut less = reply.truncate();
    less.metadata.truncation = false;
    less.answers.clone_from(&reply.answers);
    less.authorities.clone_from(&reply.authorities);
    let without = encode(&less)?;
    if fits(&without) {
        return Some(without);
    }
    let mut best = encode(&reply.truncate())?;
    let (mut low, mut high) = (0, reply.answers.len());
    while low < high {
        let middle = (low + high).div_ceil(2);
        let mut less = reply.truncate();
        less.answers = reply.answers[..middle].to_vec();
        let bytes = encode(&less)?;
        if fits(&bytes) {
            (low, best) = (middle, bytes);
        } else {
            high = middle - 1;
        }
    }
    Some(best)
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData};
    use proptest::prelude::*;

    use super::*;

    fn request(edns: Option<u16>) -> Message {
        let mut request = Message::new(7, MessageType::Query, OpCode::Query);
        request.add_query(Query::query("a.example.".parse().unwrap(), RecordType::A));
        if let Some(payload) = edns {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            request.set_edns(edns);
        }
        request
    }

    fn code(bytes: &[u8]) -> String {
        match read(bytes) {
            Read::Question(_) => "question".to_owned(),
            Read::Refuse(reply) => format!("{} {:?}", reply.metadata.id, reply.metadata.response_code),
            Read::Ignore => "ignored".to_owned(),
        }
    }

    #[test]
    fn what_is_not_a_plain_question_is_refused_or_ignored() {
        let with = |change: &dyn Fn(&mut Message)| {
            let mut request = request(Some(4096));
            change(&mut request);
            code(&request.to_vec().unwrap())
        };
        assert_eq!(with(&|_| {}), "question");
        assert_eq!(with(&|request| request.metadata.op_code = OpCode::Update), "7 NotImp");
        assert_eq!(with(&|request| request.queries.clear()), "7 FormErr");
        assert_eq!(with(&|request| request.queries[0].query_class = DNSClass::CH), "7 Refused");
        assert_eq!(with(&|request| request.queries[0].query_type = RecordType::AXFR), "7 Refused");
        assert_eq!(with(&|request| request.metadata.message_type = MessageType::Response), "ignored");
        assert_eq!(
            with(&|request| {
                request.edns.as_mut().unwrap().set_version(1);
            }),
            "7 BADVERS"
        );
        assert_eq!(code(&[0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 99]), "9 FormErr");
        assert_eq!(code(&[0, 9, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 99]), "ignored");
        assert_eq!(code(&[0, 9, 0]), "ignored");
    }

    fn large(answers: u8, additionals: u8) -> Message {
        let mut reply = reply_to(&request(Some(4096)), ResponseCode::NoError);
        let record = |number| {
            let name: Name = "a.example.".parse().unwrap();
            Record::from_rdata(name, 5, RData::A(A::new(10, 0, 0, number)))
        };
        reply.answers = (0..answers).map(record).collect();
        reply.additionals = (0..additionals).map(record).collect();
        reply
    }

    #[test]
    fn what_nobody_asked_for_is_left_out_before_a_reply_counts_as_cut() {
        let bytes = encode(&large(10, 200), 512).unwrap();
        let reply = Message::from_vec(&bytes).unwrap();
        assert!(!reply.metadata.truncation && reply.answers.len() == 10 && reply.additionals.is_empty());
        assert!(reply.edns.is_some());
    }

    #[test]
    fn a_datagram_is_as_large_as_the_client_takes_but_passes_every_network() {
        assert_eq!(datagram(&request(None)), 512);
        assert_eq!(datagram(&request(Some(100))), 512);
        assert_eq!(datagram(&request(Some(900))), 900);
        assert_eq!(datagram(&request(Some(4096))), 1232);
    }

    proptest! {
        #[test]
        fn no_reply_is_larger_than_allowed_and_one_that_was_cut_says_so(
            answers in 0_u8..=200, additionals in 0_u8..=50, limit in 60_usize..1300,
        ) {
            let bytes = encode(&large(answers, additionals), limit).unwrap();
            prop_assert!(bytes.len() <= limit);
            let reply = Message::from_vec(&bytes).unwrap();
            prop_assert_eq!(reply.metadata.truncation, reply.answers.len() < usize::from(answers));
            if reply.metadata.truncation {
                // One more would not have fit; an address takes 16 bytes.
                prop_assert!(bytes.len() + 16 > limit);
            }
        }

        #[test]
        fn bytes_of_any_kind_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = read(&bytes);
        }
    }
}
