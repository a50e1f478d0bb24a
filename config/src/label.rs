//! Labels: what people call a thing beside its name, in the form that Kubernetes gives them.

/// Most labels of one thing.
pub const LABELS_MAX: usize = 32;

/// Whether `text` may be the name of a label: at most 63 letters, digits, `-`, `_` and `.` that begin
/// and end with a letter or digit, in front of which a DNS name of at most 253 and a `/` may stand.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let is_domain = |prefix: &str| {
        let is_inner =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        (1..=253).contains(&prefix.len()) && prefix.bytes().all(is_inner) && is_framed(prefix)
    };
    match text.split_once('/') {
        Some((prefix, name)) => is_domain(prefix) && !name.is_empty() && is_value(name),
        None => !text.is_empty() && is_value(text),
    }
}

/// Whether `text` may be the value of a label: as its name without a DNS name in front, or empty.
#[must_use]
pub fn is_value(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.len() <= 63 && text.bytes().all(is_inner) && (text.is_empty() || is_framed(text))
}

fn is_framed(text: &str) -> bool {
    let ends = [text.bytes().next(), text.bytes().next_back()];
    ends.iter().all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_have_the_form_of_kubernetes() {
        for name in ["site", "topology.kubernetes.io/zone", "A_b.c-1", &"a".repeat(63)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "/a", "a/", "-a", "a-", "a b", "A.io/x", "a/b/c", &"a".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_value("") && is_value("bj-1") && !is_value("bj 1") && !is_value(".x"));
    }
}
