//! Why a request is refused before any Route sees it: a closed set, so that it can be counted.

use http::StatusCode;

/// Declares the rules with their name in metrics and the status of the answer.
macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident, $metric:literal, $status:ident;)*) => {
        /// A rule of input that a request broke.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub(crate) enum Rule {
            $($(#[$doc])* $name,)*
        }

        impl Rule {
            /// All rules, in the order in which they are declared.
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name in metrics.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $metric,)*
                }
            }

            /// The status of the answer.
            pub(crate) fn status(self) -> StatusCode {
                match self {
                    $(Self::$name => StatusCode::$status,)*
                }
            }
        }
    };
}

rules! {
    /// A line ends with LF alone.
    BareLf, "bare_lf", BAD_REQUEST;
    /// More than one empty line stands before the request line.
    EmptyLines, "empty_lines", BAD_REQUEST;
    /// A line begins with white space.
    FoldedLine, "folded_line", BAD_REQUEST;
    /// The name of a field is missing, is no token, or has no colon behind it.
    FieldName, "field_name", BAD_REQUEST;
    /// A control byte stands in the value of a field.
    FieldValue, "field_value", BAD_REQUEST;
    /// `Connection` nominates what is no field name, or too many.
    Connection, "connection", BAD_REQUEST;
    /// A name becomes one that frames or routes when `_` or `.` is read as `-`.
    LookAlike, "look_alike", BAD_REQUEST;
    /// The transfer coding is not `chunked` alone.
    TransferEncoding, "transfer_encoding", BAD_REQUEST;
    /// The transfer coding is one that we do not know.
    UnknownCoding, "unknown_coding", NOT_IMPLEMENTED;
    /// A transfer coding together with a length, or on HTTP/1.0.
    CodingAndLength, "coding_and_length", BAD_REQUEST;
    /// The length is no number, too large, or told twice and differently.
    ContentLength, "content_length", BAD_REQUEST;
    /// The request line is not three words with one space between them.
    RequestLine, "request_line", BAD_REQUEST;
    /// A version of HTTP that is not 1.0 or 1.1.
    Version, "version", HTTP_VERSION_NOT_SUPPORTED;
    /// The method is no token, or longer than 32 bytes.
    Method, "method", BAD_REQUEST;
    /// CONNECT, TRACE or TRACK.
    MethodRefused, "method_refused", METHOD_NOT_ALLOWED;
    /// A byte stands in the target that must be encoded.
    TargetByte, "target_byte", BAD_REQUEST;
    /// The target has none of the forms that a proxy takes.
    TargetForm, "target_form", BAD_REQUEST;
    /// The target is too long.
    TargetLength, "target_length", URI_TOO_LONG;
    /// Host is missing, repeated, or differs from the authority of the target.
    Host, "host", BAD_REQUEST;
    /// The host is not a name or an address with an optional port.
    Authority, "authority", BAD_REQUEST;
    /// The host asks for another TLS handshake than the one it came over.
    Misdirected, "misdirected", MISDIRECTED_REQUEST;
    /// The path has no canonical form.
    Path, "path", BAD_REQUEST;
    /// An expectation other than 100-continue.
    Expect, "expect", EXPECTATION_FAILED;
    /// The head is too large.
    HeadLength, "head_length", REQUEST_HEADER_FIELDS_TOO_LARGE;
    /// One field is too large.
    FieldLength, "field_length", REQUEST_HEADER_FIELDS_TOO_LARGE;
    /// There are too many fields.
    FieldCount, "field_count", REQUEST_HEADER_FIELDS_TOO_LARGE;
    /// The head did not arrive in time.
    SlowHead, "slow_head", REQUEST_TIMEOUT;
    /// The size of a chunk is no number, or too large, or its line does not end with CRLF.
    ChunkSize, "chunk_size", BAD_REQUEST;
    /// The extensions of chunks have control bytes, or are too long.
    ChunkExtension, "chunk_extension", BAD_REQUEST;
    /// The data of a chunk is not followed by CRLF.
    ChunkEnd, "chunk_end", BAD_REQUEST;
    /// The trailers are no fields, or too long, or too many.
    Trailer, "trailer", BAD_REQUEST;
    /// The body did not arrive in time.
    SlowBody, "slow_body", REQUEST_TIMEOUT;
    /// HTTP/2: the first frame is not SETTINGS; the connection is cut.
    FirstFrame, "first_frame", BAD_REQUEST;
    /// HTTP/2: too many SETTINGS, PING and other control frames; the connection is cut.
    ControlFlood, "control_flood", BAD_REQUEST;
    /// HTTP/2: more WINDOW_UPDATE than there was to grant; the connection is cut.
    WindowFlood, "window_flood", BAD_REQUEST;
    /// HTTP/2: too many PRIORITY for the streams that were opened; the connection is cut.
    PriorityFlood, "priority_flood", BAD_REQUEST;
    /// HTTP/2: frames without content in a row; the connection is cut.
    EmptyFrames, "empty_frames", BAD_REQUEST;
    /// HTTP/2: too many streams were reset; the connection is cut.
    ResetFlood, "reset_flood", BAD_REQUEST;
    /// What arrived is no HTTP; the connection is closed without an answer.
    NotHttp, "not_http", BAD_REQUEST;
}
