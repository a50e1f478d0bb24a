//! Canonical JSON in one pass, for what nearly every value is made of.
//!
//! A replica writes all of its Parts again after a change, and reads all of them when it starts, so
//! how long one takes is felt. Members are put in order in the place where they were written.

use std::cell::RefCell;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// The canonical form of `value`. None where order or form needs more than bytes: other than ASCII
/// or escapes in the name of a member, a member twice, a fraction, an integer beyond 2^53.
pub(super) fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Option<Vec<u8>> {
    let out = RefCell::new(Vec::with_capacity(CAPACITY));
    let sorting = Sorting { out: &out, open: Vec::new(), members: Vec::new(), moved: Vec::new() };
    value.serialize(&mut Serializer::with_formatter(Out(&out), sorting)).ok()?;
    Some(out.into_inner())
}

/// What has been written, where both the writer and who sorts it reach it.
struct Out<'a>(&'a RefCell<Vec<u8>>);

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Puts the members of each object in order when it ends.
struct Sorting<'a> {
    out: &'a RefCell<Vec<u8>>,
    /// Of each object that has begun: where its members begin in `members`.
    open: Vec<usize>,
    /// Those of all objects that have begun.
    members: Vec<Member>,
    /// Where members lie while they change their places.
    moved: Vec<u8>,
}

/// Where a member was written.
#[derive(Clone, Copy)]
struct Member {
    begins: usize,
    /// Behind the quotation mark that ends its name.
    name_ends: usize,
    ends: usize,
}

impl Member {
    /// Its name without quotation marks, in `bytes` that begin at `from`.
    fn name<'a>(&self, bytes: &'a [u8], from: usize) -> &'a [u8] {
        bytes.get(self.begins - from + 1..self.name_ends - from - 1).unwrap_or_default()
    }
}

impl Sorting<'_> {
    fn last(&mut self) -> io::Result<(usize, &mut Member)> {
        let at = self.out.borrow().len();
        Ok((at, self.members.last_mut().ok_or_else(other_form)?))
    }

    fn sort(&mut self, first: usize) -> io::Result<()> {
        let Self { out, members, moved, open: _ } = self;
        let members = members.get_mut(first..).unwrap_or_default();
        let (Some(begins), Some(ends)) =
            (members.first().map(|one| one.begins), members.last().map(|one| one.ends))
        else {
            return Ok(());
        };
        let mut out = out.borrow_mut();
        let is_plain =
            |one: &Member| one.name(&out, 0).iter().all(|byte| byte.is_ascii() && *byte != b'\\');
        if !members.iter().all(is_plain) {
            return Err(other_form());
        }
        let is_before = |a: &Member, b: &Member| a.name(&out, 0) < b.name(&out, 0);
        if members.is_sorted_by(is_before) {
            return Ok(());
        }
        moved.clear();
        moved.extend_from_slice(out.get(begins..ends).unwrap_or_default());
        let name = |one: &Member| one.name(moved, begins);
        members.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        if members.windows(2).any(|pair| matches!(pair, [a, b] if name(a) == name(b))) {
            return Err(other_form());
        }
        out.truncate(begins);
        for (at, one) in members.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            let member = moved.get(one.begins - begins..one.ends - begins);
            out.extend_from_slice(member.unwrap_or_default());
        }
        Ok(())
    }
}

impl Formatter for Sorting<'_> {
    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open.push(self.members.len());
        writer.write_all(b"{")
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if !first {
            writer.write_all(b",")?;
        }
        let begins = self.out.borrow().len();
        self.members.push(Member { begins, name_ends: begins, ends: begins });
        Ok(())
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let (at, member) = self.last()?;
        member.name_ends = at;
        writer.write_all(b":")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        let (at, member) = self.last()?;
        member.ends = at;
        Ok(())
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let first = self.open.pop().ok_or_else(other_form)?;
        self.sort(first)?;
        self.members.truncate(first);
        writer.write_all(b"}")
    }

    fn write_i64<W: ?Sized + Write>(&mut self, writer: &mut W, value: i64) -> io::Result<()> {
        if value.unsigned_abs() > INTEGER_MAX {
            return Err(other_form());
        }
        write!(writer, "{value}")
    }

    fn write_u64<W: ?Sized + Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        if value > INTEGER_MAX {
            return Err(other_form());
        }
        write!(writer, "{value}")
    }

    fn write_i128<W: ?Sized + Write>(&mut self, _: &mut W, _: i128) -> io::Result<()> {
        Err(other_form())
    }

    fn write_u128<W: ?Sized + Write>(&mut self, _: &mut W, _: u128) -> io::Result<()> {
        Err(other_form())
    }

    fn write_f32<W: ?Sized + Write>(&mut self, _: &mut W, _: f32) -> io::Result<()> {
        Err(other_form())
    }

    fn write_f64<W: ?Sized + Write>(&mut self, _: &mut W, _: f64) -> io::Result<()> {
        Err(other_form())
    }

    fn write_number_str<W: ?Sized + Write>(&mut self, _: &mut W, _: &str) -> io::Result<()> {
        Err(other_form())
    }

    fn write_raw_fragment<W: ?Sized + Write>(&mut self, _: &mut W, _: &str) -> io::Result<()> {
        Err(other_form())
    }
}

fn other_form() -> io::Error {
    io::ErrorKind::InvalidInput.into()
}

/// Every integer up to here is a number of its own where numbers are doubles (RFC 8785, section 3.2.2.3).
const INTEGER_MAX: u64 = 1 << 53;
/// Most Parts are smaller.
const CAPACITY: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Number, Value, json};

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let number = prop_oneof![
            any::<i32>().prop_map(Number::from),
            any::<u64>().prop_map(Number::from),
            any::<i64>().prop_map(Number::from),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            number.prop_map(Value::Number),
            any::<String>().prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            let name = prop_oneof![8 => "[ -~]{0,3}", 8 => "[!a-c]{0,2}", 1 => any::<String>()];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                prop::collection::vec((name, inner), 0..8).prop_map(|members| {
                    Value::Object(members.into_iter().collect::<Map<_, _>>())
                }),
            ]
        })
    }

    /// Members in the order in which they were declared, which is none.
    #[derive(Serialize)]
    struct Declared<'a> {
        z: u8,
        a: Inner<'a>,
        #[serde(rename = "a!")]
        mark: Vec<Choice>,
    }

    #[derive(Serialize)]
    struct Inner<'a> {
        text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        absent: Option<u8>,
        bytes: [i16; 2],
    }

    #[derive(Serialize)]
    enum Choice {
        Unit,
        Tuple(u8, u8),
        Named { y: bool, x: () },
    }

    #[test]
    fn structs_and_variants_are_in_order() {
        let inner = Inner { text: "\u{7f}\u{1}/\"é", absent: None, bytes: [-1, 2] };
        let mark = vec![Choice::Unit, Choice::Tuple(1, 2), Choice::Named { y: true, x: () }];
        let declared = Declared { z: 1, a: inner, mark };
        let library = serde_json_canonicalizer::to_vec(&declared).unwrap();
        let written = to_bytes(&declared).unwrap();
        assert_eq!(String::from_utf8(written), String::from_utf8(library));
    }

    #[test]
    fn what_bytes_cannot_order_is_left_to_the_library() {
        for value in [json!({"é": 1}), json!({"\n": 1}), json!(0.5), json!(u64::MAX)] {
            assert_eq!(to_bytes(&value), None, "{value}");
        }
        assert_eq!(to_bytes(&json!(9_007_199_254_740_992_u64)).unwrap(), b"9007199254740992");
    }

    proptest! {
        #[test]
        fn it_is_what_the_library_writes(value in value()) {
            let library = serde_json_canonicalizer::to_vec(&value).unwrap();
            if let Some(written) = to_bytes(&value) {
                prop_assert_eq!(String::from_utf8(written), String::from_utf8(library));
            }
        }
    }
}
