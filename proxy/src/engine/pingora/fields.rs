//! Heads of the engine as the pipeline edits them.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::request::Fields;

/// Pingora keeps a second map for the case of names, so only its own methods may edit.
macro_rules! fields {
    ($name:ident, $header:ident) => {
        pub(super) struct $name<'a>(pub(super) &'a mut $header);

        impl Fields for $name<'_> {
            fn fields(&self) -> &HeaderMap {
                &self.0.headers
            }

            fn set(&mut self, name: &HeaderName, value: HeaderValue) {
                // It fails only when there are more fields than any limit allows.
                let _ = self.0.insert_header(name, value);
            }

            fn add(&mut self, name: &HeaderName, value: HeaderValue) {
                let _ = self.0.append_header(name, value);
            }

            fn remove(&mut self, name: &HeaderName) {
                self.0.remove_header(name);
            }
        }
    };
}

fields!(RequestFields, RequestHeader);
fields!(ResponseFields, ResponseHeader);
