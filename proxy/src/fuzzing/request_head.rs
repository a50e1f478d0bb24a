//! What a head must be that passed the gate, read by rules that share nothing with it.

/// Panics when two servers could read `head` differently.
///
/// `head` ends with its empty line.
pub(super) fn assert_plain(head: &[u8]) {
    let text = std::str::from_utf8(head).map_err(|_| ());
    // Values may hold bytes above ASCII; lines are cut at the same bytes in either case.
    let mut lines = head
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or_else(|| panic!("a bare LF in {text:?}")));
    let line = lines.next().unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let [method, target, version] = words[..] else { panic!("three words: {text:?}") };
    assert!(is_token(method) && method.len() <= 32, "{text:?}");
    assert!(target.iter().all(u8::is_ascii_graphic) && !target.is_empty(), "{text:?}");
    assert!(!target.contains(&b'#') && !target.contains(&b'\\'), "{text:?}");
    let is_1_1 = version == b"HTTP/1.1";
    assert!(is_1_1 || version == b"HTTP/1.0", "{text:?}");
    let mut seen = [0; 3];
    let fields = lines.by_ref().take_while(|line| !line.is_empty());
    let mut lengths = Vec::new();
    for field in fields {
        let colon = field.iter().position(|&byte| byte == b':');
        let Some((name, value)) = colon.map(|at| field.split_at(at)) else {
            panic!("a line without a colon in {text:?}")
        };
        assert!(is_token(name), "{text:?}");
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let is_bad = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
        assert!(!value.iter().any(is_bad), "{text:?}");
        let framing = ["host", "content-length", "transfer-encoding"];
        let read_loosely: String = name.iter().map(|&byte| loosely(byte)).collect();
        if let Some(at) = framing.iter().position(|name| *name == read_loosely) {
            assert!(!name.contains(&b'_') && !name.contains(&b'.'), "a look-alike in {text:?}");
            seen[at] += 1;
            lengths.extend((at == 1).then_some(value));
            let is_chunked = value.eq_ignore_ascii_case(b"chunked");
            assert!(at != 2 || (is_chunked && is_1_1), "{text:?}");
        }
    }
    let [hosts, counts, codings] = seen;
    assert!(hosts == 1 || (hosts == 0 && !is_1_1), "{hosts} Host in {text:?}");
    assert!(counts + codings <= 1, "one way to find the end of {text:?}");
    for length in lengths {
        let digits = std::str::from_utf8(length).unwrap_or("?");
        let number: u64 = digits.parse().unwrap_or_else(|_| panic!("a length in {text:?}"));
        assert_eq!(number.to_string(), digits, "canonical");
    }
}

fn is_token(bytes: &[u8]) -> bool {
    let is_in = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_in)
}

/// As a server reads names that hands them to a program as variables.
fn loosely(byte: u8) -> char {
    match byte {
        b'_' | b'.' => '-',
        byte => char::from(byte.to_ascii_lowercase()),
    }
}
