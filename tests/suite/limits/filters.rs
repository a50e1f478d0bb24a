//! What filters may take.

use super::Section;
use super::amount::{bytes, bytes_of, count_of, number_of, time_of};

pub(super) fn section() -> Section {
    let basic = "proxy/src/filter/basic_auth.rs";
    let fetch = "proxy/src/filter/jwt/fetch.rs";
    let pages = "proxy/src/filter/error_pages.rs";
    let rows = vec![
        (
            "`auth.basic`: encoded name and password",
            bytes_of(basic, "CREDENTIALS_BYTES_MAX"),
            "fixed",
            "401: `access_denied`",
        ),
        (
            "`auth.basic`: names in one Secret",
            count_of("config/src/htpasswd.rs", "USERS_MAX"),
            "fixed",
            "those behind cannot log in",
        ),
        (
            "`auth.basic`: passwords that wait to be hashed",
            count_of(basic, "WAITING_MAX"),
            "fixed",
            "503: `overload`",
        ),
        ("... and how long", time_of(basic, "WAIT_MAX"), "fixed", "503: `overload`"),
        (
            "`auth.jwt`: size of a token",
            bytes_of("proxy/src/filter/jwt.rs", "TOKEN_BYTES_MAX"),
            "fixed",
            "401: `access_denied`",
        ),
        (
            "keys that a backend publishes: one fetch",
            format!("{}, {}", time_of(fetch, "FETCH_WITHIN"), bytes_of(fetch, "BYTES_MAX")),
            "fixed",
            "the last keys stay, a day at most; 503 where there are none",
        ),
        (
            "`auth.external`: answer that is read",
            bytes_of("proxy/src/filter/external_auth.rs", "ANSWER_BYTES_MAX"),
            "fixed",
            "it counts as unanswered",
        ),
        (
            "`buffering`: all bodies that one worker holds",
            bytes(number_of("proxy/src/engine/direct.rs", "BUFFERS_KIB_MAX") << 10),
            "fixed",
            "503: `overload`; an answer is not read ahead",
        ),
        (
            "`mirror`: copies on their way in each worker",
            count_of("proxy/src/engine/pingora/errand.rs", "COPIES_MAX"),
            "fixed",
            "no copy is sent",
        ),
        (
            "`errorPages`: page of a backend",
            format!("{}, {}", time_of(pages, "PAGE_WITHIN"), bytes_of(pages, "PAGE_BYTES_MAX")),
            "fixed",
            "a plain answer",
        ),
        (
            "`requestId`: an id that is taken over from a trusted proxy",
            bytes_of("proxy/src/filter/request_id.rs", "ID_BYTES_MAX"),
            "fixed",
            "a new one is made",
        ),
    ];
    Section { title: "Filters", about: "What can be set is below, under *Members*.", rows }
}
