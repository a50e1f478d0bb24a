//! Sizes at and beyond every limit of a head.

use super::case::*;

pub(super) fn add(cases: &mut Vec<Case>) {
    let mut class = Class("limits", cases);
    // The target: 16 KiB.
    for (bytes, passes) in [
        (16 * 1024, true),
        (16 * 1024 + 1, false),
        (17_000, false),
        (60_000, false),
        (200_000, false),
    ] {
        let target = format!("/{}", "a".repeat(bytes - 1));
        let verdict =
            if passes { serves(arrived(&format!("GET {target}"), &[], "")) } else { refused(414) };
        class.add(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), verdict);
        let target = format!("/?{}", "a".repeat(bytes - 2));
        let verdict =
            if passes { serves(arrived(&format!("GET {target}"), &[], "")) } else { refused(414) };
        class.add(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), verdict);
    }
    // Fields: 100, Host among them.
    for (count, passes) in
        [(98, true), (99, true), (100, false), (101, false), (255, false), (5_000, false)]
    {
        let verdict = if passes {
            let fields = vec![("x", "y"); count];
            serves(arrived("GET /", &fields, ""))
        } else {
            refused(431)
        };
        class.add(get_with("X: y\r\n".repeat(count)), verdict);
    }
    // One field: 32 KiB with its name.
    for (bytes, passes) in
        [(32 * 1024, true), (32 * 1024 + 1, false), (40_000, false), (60_000, false)]
    {
        let value = "y".repeat(bytes - 3);
        let verdict =
            if passes { serves(arrived("GET /", &[("x", &value)], "")) } else { refused(431) };
        class.add(get_with(format!("X: {value}\r\n")), verdict);
        let name = "n".repeat(bytes - 3);
        let verdict =
            if passes { serves(arrived("GET /", &[(&name, "v")], "")) } else { refused(431) };
        class.add(get_with(format!("{name}: v\r\n")), verdict);
    }
    // The head: 64 KiB.
    for (bytes, passes) in
        [(64 * 1024, true), (64 * 1024 + 1, false), (70_000, false), (300_000, false)]
    {
        let fixed = get_with("A: \r\nB: \r\nC: \r\n").len();
        let part = (bytes - fixed) / 3;
        let (one, two) = ("y".repeat(part), "y".repeat(bytes - fixed - 2 * part));
        let verdict = if passes {
            serves(arrived("GET /", &[("a", &one), ("b", &one), ("c", &two)], ""))
        } else {
            refused(431)
        };
        class.add(get_with(format!("A: {one}\r\nB: {one}\r\nC: {two}\r\n")), verdict);
    }
    class.add("A".repeat(100_000), refused(414));
    class.add(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(100_000)), refused(431));
    // A head in pieces is the same head, and dribbling one too slowly is told.
    class.add("GET / HTTP/1.1\r\nHost: a\r\n", refused(408));
    class.add("GET /", refused(408));
    class.add("GET / HTTP/1.1\r\nHost: a\r\nX: y\r", refused(408));
    // A large body.
    let body = "b".repeat(200_000);
    class.add(post_with(format!("Content-Length: {}\r\n", body.len()), &body), posted(&body));
    let chunks = format!("30d40\r\n{body}\r\n0\r\n\r\n");
    class.add(post_with("Transfer-Encoding: chunked\r\n", chunks), posted(&body));
}
