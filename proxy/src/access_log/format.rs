//! What a line of the access log looks like: JSON, or text with `$variables`.

mod variable;

use std::str::FromStr;

use crate::record::Record;
use variable::Variable;

/// The form of a line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// An object of JSON with everything that is known.
    Json,
    /// Text with variables, as it was written.
    Text(TextFormat),
}

/// Text with variables in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TextFormat(Vec<Piece>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece {
    Text(Box<str>),
    Variable(Variable),
}

/// Why a text is no format of a line.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FormatError {
    /// There is no such variable.
    #[error("${name} is no variable{}", suggestion(nearest))]
    Unknown {
        /// What was written.
        name: String,
        /// The variable that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A `$` without a name behind it.
    #[error("a $ without a name stands at character {at}; write $$ for the sign itself")]
    NoName {
        /// Which character, from 1.
        at: usize,
    },
    /// A `${` that is not closed.
    #[error("the ${{ at character {at} is not closed with }}")]
    Open {
        /// Which character, from 1.
        at: usize,
    },
    /// A control character.
    #[error(
        "a line break or another control character stands in the format; a request is one line"
    )]
    Control,
    /// No preset, and no variable in it, so that all lines would be alike.
    #[error("{0:?} is neither json nor combined, and has no $variable")]
    NoVariable(String),
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(nearest) => format!("; ${nearest} is"),
        None => "; docs/access-log.md lists them".to_owned(),
    }
}

/// The format that nginx and Apache call `combined`.
const COMBINED: &str = "$remote_addr - - [$time_local] \"$request\" $status $body_bytes_sent \
                        \"$http_referer\" \"$http_user_agent\"";

impl FromStr for LogFormat {
    type Err = FormatError;

    /// Reads `json`, `combined`, or a text with `$variables`; `$$` is a dollar sign.
    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text {
            "json" => Ok(Self::Json),
            "combined" => Ok(Self::Text(TextFormat::parse(COMBINED)?)),
            other => Ok(Self::Text(TextFormat::parse(other)?)),
        }
    }
}

impl LogFormat {
    /// Writes the line of `record`, without a line break at its end.
    pub(crate) fn line(&self, record: &Record, out: &mut Vec<u8>) {
        match self {
            // What is serialised are numbers and texts, which cannot fail, into memory.
            Self::Json => drop(serde_json::to_writer(out, record)),
            Self::Text(TextFormat(pieces)) => {
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                        Piece::Variable(variable) => variable.write(record, out),
                    }
                }
            }
        }
    }
}

impl TextFormat {
    fn parse(text: &str) -> Result<Self, FormatError> {
        if text.chars().any(char::is_control) {
            return Err(FormatError::Control);
        }
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        let mut has_variable = false;
        while let Some((before, behind)) = rest.split_once('$') {
            plain.push_str(before);
            let at = text[..text.len() - behind.len()].chars().count();
            if let Some(behind) = behind.strip_prefix('$') {
                plain.push('$');
                rest = behind;
                continue;
            }
            let (name, behind) = match behind.strip_prefix('{') {
                Some(inner) => inner.split_once('}').ok_or(FormatError::Open { at })?,
                None => behind.split_at(behind.find(is_behind_name).unwrap_or(behind.len())),
            };
            if name.is_empty() {
                return Err(FormatError::NoName { at });
            }
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
            }
            pieces.push(Piece::Variable(Variable::of(name)?));
            has_variable = true;
            rest = behind;
        }
        if !has_variable {
            return Err(FormatError::NoVariable(text.to_owned()));
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain.into()));
        }
        Ok(Self(pieces))
    }
}

/// Names and meanings of all variables.
pub fn log_variables() -> impl Iterator<Item = (&'static str, &'static str)> {
    Variable::ALL.iter().map(|variable| (variable.name(), variable.help()))
}

fn is_behind_name(character: char) -> bool {
    !character.is_ascii_alphanumeric() && character != '_'
}
