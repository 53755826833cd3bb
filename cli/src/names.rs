//! Suggestions for mistyped names.

/// The message for a name that is not known: the nearest one, and all of them.
///
/// ```
/// let message = snapline_cli::names::unknown("mutant", "no-fense", &["no-fence", "no-resend"]);
/// assert_eq!(message, "there is no mutant `no-fense`; did you mean `no-fence`?\nthe mutants are: no-fence, no-resend");
/// ```
#[must_use]
pub fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let hint = match nearest(name, known) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => String::new(),
    };
    format!("there is no {what} `{name}`{hint}\nthe {what}s are: {}", known.join(", "))
}

/// The known name that takes the fewest edits to get to, if it is near enough to be meant.
#[must_use]
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = known.iter().map(|other| (distance(name, other), *other)).min()?;
    let enough = near.0 <= (name.chars().count() / 2).max(1);
    let within = || known.iter().copied().find(|other| !name.is_empty() && other.contains(name));
    if enough { Some(near.1) } else { within() }
}

/// Characters to insert, delete or replace between two names.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (done, mine) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = done + 1;
        for (place, theirs) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(mine != *theirs);
            diagonal = row[place + 1];
            row[place + 1] = replaced.min(diagonal + 1).min(row[place] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (from, to, steps) in [("", "", 0), ("", "ab", 2), ("chian", "chain", 2), ("a", "b", 1)]
        {
            assert_eq!(distance(from, to), steps, "{from} {to}");
        }
    }

    #[test]
    fn the_nearest_name_is_near_or_none() {
        let known = ["chain", "chain-of-three", "diamond"];
        assert_eq!(nearest("chian", &known), Some("chain"));
        assert_eq!(nearest("three", &known), Some("chain-of-three"));
        assert_eq!(nearest("xyzzy-plugh", &known), None);
        assert_eq!(nearest("chain", &[]), None);
    }
}
