//! JSON Pointers (RFC 6901) to fields.

/// `parent` with one more step.
pub(crate) fn push(parent: &mut String, step: &str) {
    parent.push('/');
    for character in step.chars() {
        match character {
            '~' => parent.push_str("~0"),
            '/' => parent.push_str("~1"),
            other => parent.push(other),
        }
    }
}

/// The steps of a pointer, without escapes.
pub(crate) fn steps(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect()
}

/// The pointer without its last step; empty for the whole document.
pub(crate) fn parent(pointer: &str) -> &str {
    pointer.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The last step.
pub(crate) fn last(pointer: &str) -> String {
    steps(pointer).pop().unwrap_or_default()
}

/// Whether `pointer` is `part` or lies below it.
pub(crate) fn is_within(pointer: &str, part: &str) -> bool {
    pointer.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
