//! The power of two choices: of two taken at random by weight, the better one.

use std::sync::Arc;
use std::time::Duration;

use super::super::member::Member;
use super::peak_ewma;

/// What makes one of two the better one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    /// Fewer requests in flight.
    Load,
    /// What one more request is expected to cost.
    Cost,
}

/// The better of two; the first when they are alike.
pub(crate) fn better<'a>(
    one: &'a Arc<Member>,
    other: &'a Arc<Member>,
    by: By,
    since_start: Duration,
) -> &'a Arc<Member> {
    let measure = |member: &Member| match by {
        By::Load => u64::from(member.load()),
        By::Cost => peak_ewma::cost(member, since_start),
    };
    if measure(other) < measure(one) { other } else { one }
}
