//! What `Connection` nominates (RFC 9110 section 7.6.1).
//!
//! A nominated field goes no further. Nobody may make a field vanish that
//! routes, frames, or tells who the client is.

use bytes::BytesMut;

use super::judge::is_token_byte;
use crate::listener::refusal::Rule;
use crate::nominated::{is_protected, members, option};

/// Judges one value of `Connection`, of which `before` members came on earlier lines.
///
/// Gives the members so far, and whether one names a protected field.
pub(super) fn judge_connection(value: &[u8], before: usize) -> Result<(usize, bool), Rule> {
    let mut count = before;
    let mut is_protected = false;
    for member in members(value) {
        count += 1;
        if count > MEMBERS_MAX || !member.iter().all(|&byte| is_token_byte(byte)) {
            return Err(Rule::Connection);
        }
        is_protected |= protects(member);
    }
    Ok((count, is_protected))
}

/// Writes the field `Connection` of `value` without members that name protected fields.
pub(super) fn write_kept(value: &[u8], out: &mut BytesMut) {
    let mut is_first = true;
    for member in members(value).filter(|member| !protects(member)) {
        out.extend_from_slice(if is_first { b"Connection: " } else { b", " });
        out.extend_from_slice(member);
        is_first = false;
    }
    if !is_first {
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether `member` names a field that is protected; an option of the connection names none.
fn protects(member: &[u8]) -> bool {
    option(member).is_none() && is_protected(member)
}

/// Members of all lines together; browsers send one or two, and the engine takes no more.
const MEMBERS_MAX: usize = 9;
