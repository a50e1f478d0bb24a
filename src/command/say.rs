//! Writing to standard output and standard error, which a reader such as `head` may close early.

use std::fmt::Display;
use std::io::{ErrorKind, Write as _};

/// Writes `text`; that nobody reads on is no error.
pub(super) fn say(text: impl Display) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// Writes `text` and ends the line.
pub(super) fn say_line(text: impl Display) -> anyhow::Result<()> {
    say(format_args!("{text}\n"))
}

/// Writes a line beside the result, to standard error. That it cannot be written changes nothing.
pub(super) fn tell_line(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
