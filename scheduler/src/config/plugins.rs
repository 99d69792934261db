//! Which plugins a profile turns on and off, by extension point and by `multiPoint`. Must never know their arguments.

use barque_api::field::{FieldError, FieldPath};
use serde_json::Value;

use super::reader::Reader;
use crate::plugins::{Plugin, PluginSet};
use crate::profile::{DEFAULT_SCORES, FILTERS, Profile};

const POINTS: [&str; 13] = [
    "preEnqueue",
    "queueSort",
    "preFilter",
    "filter",
    "postFilter",
    "preScore",
    "score",
    "reserve",
    "permit",
    "preBind",
    "bind",
    "postBind",
    "multiPoint",
];

/// What is turned on and off at one point.
#[derive(Default)]
struct Turned {
    on: Vec<(Plugin, i64)>,
    off: Vec<Plugin>,
    all_off: bool,
    at: Option<FieldPath>,
}

impl Turned {
    fn keeps(&self, plugin: Plugin) -> bool {
        !self.all_off && !self.off.contains(&plugin)
    }
}

/// Reads `plugins` into a profile.
pub(super) fn read(value: &Value, path: &FieldPath, profile: &mut Profile, errors: &mut Vec<FieldError>) {
    let mut reader = Reader::of(value, path.clone(), errors);
    let mut points: Vec<(&str, Turned)> = Vec::new();
    for point in POINTS {
        if let Some(value) = reader.take(point) {
            let path = reader.path(point);
            points.push((point, turned(value, &path, reader.errors())));
        }
    }
    let mut at = |point: &str| {
        let found = points.iter().position(|(other, _)| *other == point);
        found.map(|found| points.swap_remove(found).1).unwrap_or_default()
    };
    let multi = at("multiPoint");
    let enabled = |point: &Turned, plugin: Plugin| {
        let everywhere = multi.keeps(plugin) || multi.on.iter().any(|(on, _)| *on == plugin);
        point.on.iter().any(|(on, _)| *on == plugin) || (everywhere && point.keeps(plugin))
    };
    let (before, filter) = (at("preEnqueue"), at("filter"));
    let filters = FILTERS.into_iter().filter(|plugin| {
        enabled(if *plugin == Plugin::SchedulingGates { &before } else { &filter }, *plugin)
    });
    profile.filters = filters.fold(PluginSet::default(), PluginSet::with);
    let score = at("score");
    let weight = |turned: &Turned, plugin: Plugin| {
        let on = turned.on.iter().find(|(on, _)| *on == plugin);
        on.map(|(_, weight)| *weight).filter(|weight| *weight != 0)
    };
    let scores = DEFAULT_SCORES.into_iter().filter(|(plugin, _)| enabled(&score, *plugin));
    profile.scores = scores
        .map(|(plugin, default)| {
            let given = weight(&score, plugin).or_else(|| weight(&multi, plugin));
            // A plugin that is turned on anew has the weight 1 unless it says so.
            let anew = !multi.keeps(plugin) || !score.keeps(plugin);
            (plugin, given.unwrap_or(if anew { 1 } else { default }))
        })
        .collect();
    profile.preempts = enabled(&at("postFilter"), Plugin::DefaultPreemption);
    for (point, plugin) in [("queueSort", Plugin::PrioritySort), ("bind", Plugin::DefaultBinder)] {
        let turned = at(point);
        if !enabled(&turned, plugin) {
            let path = turned.at.unwrap_or_else(|| reader.path("multiPoint"));
            let detail = format!("{} is needed at {point}: there is no other", plugin.name());
            reader.tell(FieldError::forbidden(&path.child("disabled"), detail));
        }
    }
    reader.end();
}

fn turned(value: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) -> Turned {
    let mut turned = Turned { at: Some(path.clone()), ..Turned::default() };
    let mut reader = Reader::of(value, path.clone(), errors);
    for (at, value) in reader.list("enabled").into_iter().flatten().enumerate() {
        let path = reader.path("enabled").index(at);
        let mut one = Reader::of(value, path.clone(), reader.errors());
        let (name, weight) = (one.text("name").unwrap_or_default(), one.integer("weight").unwrap_or(0));
        one.end();
        match Plugin::of_name(name) {
            None => reader.tell(FieldError::not_found(&path.child("name"), name)),
            Some(plugin) if turned.on.iter().any(|(on, _)| *on == plugin) => {
                reader.tell(FieldError::duplicate(&path.child("name"), name));
            }
            Some(_) if !(0..=i64::from(i32::MAX)).contains(&weight) => {
                reader.tell(FieldError::invalid(
                    &path.child("weight"),
                    weight,
                    "must be a positive 32 bit number",
                ));
            }
            Some(plugin) => turned.on.push((plugin, weight)),
        }
    }
    for (at, value) in reader.list("disabled").into_iter().flatten().enumerate() {
        let path = reader.path("disabled").index(at);
        let mut one = Reader::of(value, path, reader.errors());
        let name = one.text("name").unwrap_or_default();
        one.take("weight");
        one.end();
        match name {
            "*" => turned.all_off = true,
            // What is not there is off.
            name => turned.off.extend(Plugin::of_name(name)),
        }
    }
    reader.end();
    turned
}
