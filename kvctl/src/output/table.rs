//! `-w table`: the answers that are lists of members or endpoints. No other answer has a table in etcdctl.

use super::{Answer, grid, rows};

pub(super) fn render(answer: &Answer) -> Option<String> {
    match answer {
        Answer::MemberList(list) => Some(grid::draw(rows::MEMBERS, &rows::members(list))),
        Answer::Health(endpoints) => Some(grid::draw(rows::HEALTH, &rows::health(endpoints))),
        Answer::Status(endpoints) => Some(grid::draw(rows::STATUS, &rows::status(endpoints))),
        Answer::HashKv(endpoints) => Some(grid::draw(rows::HASHES, &rows::hashes(endpoints))),
        _ => None,
    }
}
