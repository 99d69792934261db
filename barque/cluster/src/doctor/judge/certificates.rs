//! Whether certificates are good, and for how long. Decisions; time is handed in.

use std::time::{Duration, SystemTime};

use super::super::Finding;
use crate::leaf::{Facts, renewal};

/// A day.
const DAY: Duration = Duration::from_secs(86_400);
/// Authorities are exchanged by hand: they are told of so long before.
const AUTHORITY_NOTICE: Duration = Duration::from_secs(180 * 86_400);
/// One that ends so soon is as good as ended.
const SOON: Duration = Duration::from_secs(7 * 86_400);

/// A certificate of this master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateSeen {
    pub(crate) name: String,
    pub(crate) is_authority: bool,
    /// Nothing when it or its key is not there, or is none; why it cannot be read otherwise.
    pub(crate) facts: Result<Option<Facts>, String>,
}

/// A finding for each that is not good, or one that all are.
pub(crate) fn certificates(all: &[CertificateSeen], now: SystemTime) -> Vec<Finding> {
    const CHECK: &str = "certificates";
    let bad: Vec<Finding> = all.iter().filter_map(|it| judged(CHECK, it, now)).collect();
    if !bad.is_empty() {
        return bad;
    }
    let first = |authority: bool| {
        let ends = all.iter().filter(|it| it.is_authority == authority).filter_map(|it| {
            let until = it.facts.as_ref().ok()?.as_ref()?.until;
            Some((until.duration_since(now).unwrap_or_default().as_secs() / DAY.as_secs(), it.name.as_str()))
        });
        ends.min()
    };
    let told = match (first(false), first(true)) {
        (Some((days, name)), Some((authorities, _))) => format!(
            "{} are good; the first to end is {name}, in {days} d, and of the authorities one in {authorities} d",
            all.len()
        ),
        _ => format!("{} are good", all.len()),
    };
    vec![Finding::ok(CHECK, told)]
}

fn judged(check: &str, it: &CertificateSeen, now: SystemTime) -> Option<Finding> {
    let name = &it.name;
    let anew = format!("`barque certs renew {name}` makes it anew");
    let by_hand = "authorities are not made anew by themselves: put it back from another master or a backup";
    let advice = if it.is_authority { by_hand } else { &anew };
    let facts = match &it.facts {
        Ok(Some(facts)) => facts,
        Ok(None) => return Some(Finding::failed(check, format!("{name} is missing, or is none"), advice)),
        Err(why) => {
            let found = format!("{name} cannot be read: {why}");
            return Some(Finding::failed(
                check,
                found,
                "its directory must be readable: run this as its owner",
            ));
        }
    };
    if facts.from > now {
        let found =
            format!("{name} is not good before its time comes, which this machine's clock has not reached");
        return Some(Finding::failed(check, found, "look at the clock of this machine"));
    }
    let Ok(left) = facts.until.duration_since(now) else {
        let ago = now.duration_since(facts.until).unwrap_or_default().as_secs() / DAY.as_secs();
        return Some(Finding::failed(check, format!("{name} ended {ago} d ago"), advice));
    };
    let days = left.as_secs() / DAY.as_secs();
    if it.is_authority {
        let advice = "with it everything ends that it signed: `barque certs rotate-ca` makes new ones while the cluster runs";
        return (left < AUTHORITY_NOTICE)
            .then(|| Finding::warning(check, format!("the authority {name} ends in {days} d"), advice));
    }
    let late = renewal(facts) + DAY < now;
    let found = format!("{name} ends in {days} d, and should have been made anew before");
    let advice = format!("a running master makes certificates anew by itself: see its log; {anew}");
    match late {
        false => None,
        true if left < SOON => Some(Finding::failed(check, found, advice)),
        true => Some(Finding::warning(check, found, advice)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + 20_000 * DAY
    }

    fn seen(is_authority: bool, since_days: u32, left_days: i32) -> CertificateSeen {
        let left = left_days.unsigned_abs() * DAY;
        let facts = Facts {
            common_name: String::new(),
            organizations: Vec::new(),
            names: Default::default(),
            addresses: Default::default(),
            issuer: Vec::new(),
            subject: Vec::new(),
            from: now() - since_days * DAY,
            until: if left_days < 0 { now() - left } else { now() + left },
        };
        CertificateSeen { name: "x".to_owned(), is_authority, facts: Ok(Some(facts)) }
    }

    #[test]
    fn a_certificate_is_good_or_told() {
        let missing = CertificateSeen { facts: Ok(None), ..seen(false, 0, 0) };
        let cases = [
            (seen(false, 10, 355), Level::Ok, "1 are good"),
            (seen(false, 300, 65), Level::Warning, "x ends in 65 d, and should have been made anew before"),
            (seen(false, 360, 5), Level::Failed, "x ends in 5 d"),
            (seen(false, 400, -35), Level::Failed, "x ended 35 d ago"),
            (missing, Level::Failed, "x is missing"),
            (seen(true, 3000, 650), Level::Ok, "good"),
            (seen(true, 3500, 150), Level::Warning, "the authority x ends in 150 d"),
            (seen(true, 3651, -1), Level::Failed, "x ended 1 d ago"),
        ];
        for (certificate, level, text) in cases {
            let all = certificates(&[certificate], now());
            assert_eq!(all[0].result, level, "{all:?}");
            assert!(all[0].found.contains(text), "{all:?}");
        }
        let early = certificates(&[seen(false, 0, 9)], now() - DAY);
        assert!(early[0].advice.as_ref().unwrap().contains("clock"), "{early:?}");
    }

    #[test]
    fn the_first_to_end_is_named_when_all_are_good() {
        let all = certificates(&[seen(true, 10, 3640), seen(false, 10, 355)], now());
        assert_eq!(
            all[0].found,
            "2 are good; the first to end is x, in 355 d, and of the authorities one in 3640 d"
        );
    }
}
