//! Medians of both sides and their ratios.

use std::fmt;

use serde::Serialize;

use crate::load::Sample;

/// A measured thing: samples of the first and the second side, round by round.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) name: String,
    /// Samples by side.
    pub(crate) sides: [Vec<Sample>; 2],
}

/// A number where less is better, in its unit.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// What was measured, with its unit.
    pub(crate) name: String,
    /// Values by side.
    pub(crate) sides: [Vec<f64>; 2],
}

/// Everything of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    /// Names of the sides.
    pub(crate) names: [String; 2],
    /// Loads.
    pub(crate) rows: Vec<Row>,
    /// Memory and times.
    pub(crate) figures: Vec<Figure>,
}

impl Results {
    /// Adds a sample of side 0 or 1.
    pub(crate) fn sample(&mut self, name: &str, side: usize, sample: Sample) {
        match self.rows.iter_mut().find(|row| row.name == name) {
            Some(row) => row.sides[side].push(sample),
            None => {
                let mut row = Row { name: name.to_owned(), sides: [Vec::new(), Vec::new()] };
                row.sides[side].push(sample);
                self.rows.push(row);
            }
        }
    }

    /// Adds a value of side 0 or 1.
    pub(crate) fn figure(&mut self, name: &str, side: usize, value: f64) {
        match self.figures.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure.sides[side].push(value),
            None => {
                let mut figure = Figure { name: name.to_owned(), sides: [Vec::new(), Vec::new()] };
                figure.sides[side].push(value);
                self.figures.push(figure);
            }
        }
    }
}

/// The middle value, or the mean of the two in the middle; not a number if there is none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = &self.names;
        if !self.rows.is_empty() {
            writeln!(
                f,
                "{:<30} {:>11} {:>11} {:>7} | {:>9} {:>9} {:>7} | {:>8} {:>8} | {:>6} {:>6} | {:>6}",
                "load (medians)",
                first,
                second,
                "times",
                "p99 ms",
                "p99 ms",
                "share",
                "CPU us",
                "CPU us",
                "client",
                "client",
                "errors"
            )?;
        }
        for row in &self.rows {
            let of = |side: usize, field: fn(&Sample) -> f64| median(row.sides[side].iter().map(field));
            let rates = [0, 1].map(|side| of(side, |sample| sample.rate));
            let p99s = [0, 1].map(|side| of(side, |sample| sample.p99_us) / 1000.0);
            let servers = [0, 1].map(|side| of(side, |sample| sample.server_cpu_us));
            let clients = [0, 1].map(|side| of(side, |sample| sample.client_cpu_us));
            let errors: u64 = row.sides.iter().flatten().map(|sample| sample.errors).sum();
            writeln!(
                f,
                "{:<30} {:>11.1} {:>11.1} {:>7.2} | {:>9.2} {:>9.2} {:>7.2} | {:>8.1} {:>8.1} | {:>6.1} {:>6.1} | {:>6}",
                row.name,
                rates[0],
                rates[1],
                rates[1] / rates[0],
                p99s[0],
                p99s[1],
                p99s[1] / p99s[0],
                servers[0],
                servers[1],
                clients[0],
                clients[1],
                errors
            )?;
        }
        if !self.figures.is_empty() {
            writeln!(
                f,
                "\n{:<44} {:>11} {:>11} {:>7}",
                "figure (medians, less is better)", first, second, "share"
            )?;
        }
        for figure in &self.figures {
            let [a, b] = [0, 1].map(|side| median(figure.sides[side].iter().copied()));
            writeln!(f, "{:<44} {a:>11.1} {b:>11.1} {:>7.2}", figure.name, b / a)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios_are_printed() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        let mut results = Results { names: ["a".into(), "b".into()], rows: Vec::new(), figures: Vec::new() };
        for (side, value) in [(0, 10.0), (1, 5.0), (0, 30.0), (0, 20.0)] {
            results.figure("gap, ms", side, value);
        }
        let text = results.to_string();
        assert!(text.lines().last().is_some_and(|line| line.ends_with("20.0         5.0    0.25")), "{text}");
    }
}
