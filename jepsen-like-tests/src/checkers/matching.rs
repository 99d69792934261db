//! Which open request made which revision: each revision needs one, and each request makes at most one.

/// Gives each of `wants` (a list of candidates) one candidate of its own, out of `candidates` of them; the index of
/// one that goes without if that cannot be.
///
/// Augmenting paths: whoever finds all its candidates taken asks their owners to move.
pub(super) fn assign(wants: &[Vec<usize>], candidates: usize) -> Result<Vec<usize>, usize> {
    let mut owner: Vec<Option<usize>> = vec![None; candidates];
    for want in 0..wants.len() {
        let mut asked = vec![false; candidates];
        if !place(want, wants, &mut owner, &mut asked) {
            return Err(want);
        }
    }
    let mut chosen = vec![0; wants.len()];
    for (candidate, want) in owner.iter().enumerate() {
        if let Some(want) = want {
            chosen[*want] = candidate;
        }
    }
    Ok(chosen)
}

fn place(want: usize, wants: &[Vec<usize>], owner: &mut [Option<usize>], asked: &mut [bool]) -> bool {
    for &candidate in &wants[want] {
        if std::mem::replace(&mut asked[candidate], true) {
            continue;
        }
        let free = match owner[candidate] {
            None => true,
            Some(other) => place(other, wants, owner, asked),
        };
        if free {
            owner[candidate] = Some(want);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_move_where_they_can() {
        for (wants, expected) in [
            (vec![], Ok(vec![])),
            (vec![vec![0, 1], vec![0]], Ok(vec![1, 0])),
            (vec![vec![0, 1], vec![0, 2], vec![0]], Ok(vec![1, 2, 0])),
            (vec![vec![0], vec![0]], Err(1)),
            (vec![vec![0], vec![]], Err(1)),
            (vec![vec![0, 1], vec![0, 1], vec![0, 1]], Err(2)),
        ] {
            assert_eq!(assign(&wants, 3), expected, "{wants:?}");
        }
    }
}
