//! The whole product over real sockets; one module per promise.

mod pages;
mod tidy;
