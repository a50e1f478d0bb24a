//! The difference between two texts, line by line.

/// Lines that both texts have, or that one of them has alone, in order.
///
/// It is the shortest where the part that differs has at most 2,000 lines on each side; beyond that
/// all lines of the first text come before all of the second.
#[must_use]
pub fn difference(left: &str, right: &str) -> String {
    let (left, right): (Vec<&str>, Vec<&str>) = (left.lines().collect(), right.lines().collect());
    let same_start = left.iter().zip(&right).take_while(|(a, b)| a == b).count();
    let (head, left) = left.split_at(same_start);
    let right = right.get(same_start..).unwrap_or_default();
    let same_end = left.iter().rev().zip(right.iter().rev()).take_while(|(a, b)| a == b).count();
    let (left, tail) = left.split_at(left.len() - same_end);
    let right = right.get(..right.len() - same_end).unwrap_or_default();
    let mut out = String::new();
    head.iter().for_each(|line| put(&mut out, ' ', line));
    middle(left, right, &mut out);
    tail.iter().for_each(|line| put(&mut out, ' ', line));
    out
}

/// How many lines each side of the table of common lines may have.
const TABLE_LINES_MAX: usize = 2_000;

fn middle(left: &[&str], right: &[&str], out: &mut String) {
    if left.len() > TABLE_LINES_MAX || right.len() > TABLE_LINES_MAX {
        left.iter().for_each(|line| put(out, '-', line));
        right.iter().for_each(|line| put(out, '+', line));
        return;
    }
    let common = common_after(left, right);
    let width = right.len() + 1;
    let longest = |a: usize, b: usize| common.get(a * width + b).copied().unwrap_or(0);
    let (mut a, mut b) = (0, 0);
    loop {
        match (left.get(a), right.get(b)) {
            (None, None) => return,
            (Some(ours), Some(theirs)) if ours == theirs => {
                put(out, ' ', ours);
                (a, b) = (a + 1, b + 1);
            }
            (Some(ours), theirs) if theirs.is_none() || longest(a + 1, b) >= longest(a, b + 1) => {
                put(out, '-', ours);
                a += 1;
            }
            (_, Some(theirs)) => {
                put(out, '+', theirs);
                b += 1;
            }
            // The arm before takes it: nothing is left on the other side.
            (Some(_), None) => return,
        }
    }
}

/// For each pair of places how many lines of what follows are common to both at most.
fn common_after(left: &[&str], right: &[&str]) -> Vec<u16> {
    let width = right.len() + 1;
    let mut common = vec![0_u16; (left.len() + 1) * width];
    for (a, ours) in left.iter().enumerate().rev() {
        for (b, theirs) in right.iter().enumerate().rev() {
            common[a * width + b] = if ours == theirs {
                common[(a + 1) * width + b + 1] + 1
            } else {
                common[(a + 1) * width + b].max(common[a * width + b + 1])
            };
        }
    }
    common
}

fn put(out: &mut String, sign: char, line: &str) {
    out.push(sign);
    out.push_str(line);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn side(of: &str, sign: char) -> Vec<&str> {
        let mine = |line: &&str| line.starts_with([' ', sign]);
        of.lines().filter(mine).map(|line| &line[1..]).collect()
    }

    proptest! {
        #[test]
        fn each_side_can_be_read_from_the_difference(
            left in "([ab]\n){0,12}",
            right in "([ab]\n){0,12}",
        ) {
            let found = difference(&left, &right);
            prop_assert_eq!(side(&found, '-'), left.lines().collect::<Vec<_>>());
            prop_assert_eq!(side(&found, '+'), right.lines().collect::<Vec<_>>());
            prop_assert_eq!(found.lines().all(|line| line.starts_with(' ')), left == right);
        }
    }

    #[test]
    fn what_is_common_stands_once() {
        assert_eq!(difference("a\nb\nc\n", "a\nx\nc\n"), " a\n-b\n+x\n c\n");
        assert_eq!(difference("a\n", "a\nb\n"), " a\n+b\n");
        assert_eq!(difference("1\na\n2\nb\n", "a\n3\nb\n"), "-1\n a\n-2\n+3\n b\n");
    }

    #[test]
    fn very_long_texts_are_told_without_a_table() {
        let many = |of: &str| format!("{of}\n").repeat(TABLE_LINES_MAX + 1);
        let found = difference(&many("a"), &many("b"));
        assert_eq!(found.lines().count(), 2 * (TABLE_LINES_MAX + 1));
        assert!(found.starts_with("-a") && found.ends_with("+b\n"));
    }
}
