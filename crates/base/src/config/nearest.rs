//! The key somebody meant: the known name with the smallest edit distance, if it is near enough to be a typo.

/// The name among `known` nearest to `typed`, unless even that one is more than a third of its length away.
pub fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 200;
    if typed.len() > LONGEST {
        return None;
    }
    // A distance is at least the difference of the lengths, which costs nothing to know.
    let near = |name: &str, distance: usize| distance * 3 <= name.len().max(3);
    let known = known.filter(|name| near(name, name.len().abs_diff(typed.len())));
    let best = known.map(|name| (distance(typed, name), name)).min()?;
    near(best.1, best.0).then_some(best.1)
}

fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
