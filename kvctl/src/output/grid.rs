//! Draws tables as etcdctl's look: upper-case headings in the middle, cells to the right, long cells wrapped at
//! words. For answers of any kind.

/// Cells with spaces are wrapped beyond this many characters.
const WRAP_WIDTH: usize = 30;

/// A table with its frame, ending in a line break. Every row has as many cells as `header`.
pub(crate) fn draw(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<Vec<String>> = header.iter().map(|cell| wrap(&title(cell))).collect();
    let rows: Vec<Vec<Vec<String>>> =
        rows.iter().map(|row| row.iter().map(|cell| wrap(cell)).collect()).collect();
    let width_of = |cell: &Vec<String>| cell.iter().map(|line| length(line)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.chain(&header[column..=column]).map(width_of).max().unwrap_or(0)
        })
        .collect();
    let frame = widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("+");
    let frame = format!("+{frame}+\n");

    let mut out = frame.clone();
    lines(&mut out, &header, &widths, center);
    out.push_str(&frame);
    for row in &rows {
        lines(&mut out, row, &widths, |text, width| format!("{}{text}", pad(text, width)));
    }
    if !rows.is_empty() {
        out.push_str(&frame);
    }
    out
}

/// One row, which is as many lines high as its highest cell.
fn lines(out: &mut String, row: &[Vec<String>], widths: &[usize], align: impl Fn(&str, usize) -> String) {
    let height = row.iter().map(Vec::len).max().unwrap_or(0).max(1);
    for at in 0..height {
        for (cell, width) in row.iter().zip(widths) {
            let text = cell.get(at).map_or("", String::as_str);
            out.push_str(&format!("| {} ", align(text, *width)));
        }
        out.push_str("|\n");
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn pad(text: &str, width: usize) -> String {
    " ".repeat(width.saturating_sub(length(text)))
}

fn center(text: &str, width: usize) -> String {
    let gap = width.saturating_sub(length(text));
    format!("{}{text}{}", " ".repeat(gap / 2), " ".repeat(gap - gap / 2))
}

fn title(text: &str) -> String {
    text.replace('_', " ").trim().to_uppercase()
}

/// Lines of at most [`WRAP_WIDTH`] characters, or of the longest word, with the right margin as even as possible.
fn wrap(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split(' ').collect();
    let most = words.iter().map(|word| length(word)).max().unwrap_or(0).max(WRAP_WIDTH);
    // best[i]: the least cost of the words from i on, and where the next line begins.
    let mut best = vec![(0_usize, words.len()); words.len() + 1];
    for first in (0..words.len()).rev() {
        let mut width = 0;
        best[first].0 = usize::MAX;
        for next in first + 1..=words.len() {
            width += length(words[next - 1]) + usize::from(next > first + 1);
            if width > most {
                break;
            }
            let gap = most - width;
            let cost = if next == words.len() { 0 } else { gap * gap + best[next].0 };
            if cost < best[first].0 {
                best[first] = (cost, next);
            }
        }
    }
    let mut lines = Vec::new();
    let mut first = 0;
    while first < words.len() {
        let next = best[first].1;
        lines.push(words[first..next].join(" "));
        first = next;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_frame_a_heading_and_cells_to_the_right() {
        let rows =
            vec![vec!["8e9e".to_owned(), String::new()], vec!["1".to_owned(), "a longer name".to_owned()]];
        let expected = "\
+------+---------------+
|  ID  |    NAME OF    |
+------+---------------+
| 8e9e |               |
|    1 | a longer name |
+------+---------------+
";
        assert_eq!(draw(&["ID", "name_of"], &rows), expected);
    }

    #[test]
    fn long_cells_are_wrapped_at_words() {
        let text = "Failed to commit the proposal: context deadline exceeded";
        assert_eq!(wrap(text), ["Failed to commit the proposal:", "context deadline exceeded"]);
        assert_eq!(
            wrap("http://a-very-long-address.example.org:2379"),
            ["http://a-very-long-address.example.org:2379"]
        );
        assert_eq!(wrap(""), [""]);
    }
}
