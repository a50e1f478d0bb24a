use std::io;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, StatusCode};

use super::*;
use crate::record::tests::record;
use crate::record::{Queries, Quoted, Texts};

const WITHIN: Duration = Duration::from_secs(20);

fn example() -> Record {
    let began = SystemTime::UNIX_EPOCH + Duration::from_millis(1_772_730_189_250);
    let mut record = record("a.example", "/x", 200, began);
    let mut headers = HeaderMap::new();
    let agent = HeaderValue::from_bytes(b"evil\" 200\tx\\ \xc3\xa4").unwrap();
    headers.insert("user-agent", agent);
    record.texts = Texts::of("/x", Some("a=1"), &Quoted::of(&headers), Queries::Keep);
    record
}

#[track_caller]
fn check(format: &str, expected: &str) {
    let format: LogFormat = format.parse().unwrap();
    let mut line = Vec::new();
    format.line(&example(), &mut line);
    assert_eq!(String::from_utf8(line).unwrap(), expected);
}

#[test]
fn formats_say_what_is_known() {
    check(
        "combined",
        "192.0.2.7 - - [05/Mar/2026:17:03:09 +0000] \"GET /x?a=1 HTTP/1.1\" 200 5 \"-\" \
         \"evil\\x22 200\\x09x\\x5C \\xC3\\xA4\"",
    );
    check("$$$status${status}x", "$200200x");
    check("$request_time $first_byte_time $upstream_connect_time", "0.002 0.001 -");
    check("$time_iso8601 $msec", "2026-03-05T17:03:09Z 1772730189.252");
    check(
        "$namespace $route $backend $upstream_addr $tries",
        "shop Ingress/shop/web#a/ Service/shop/web:80 10.0.0.1:80 1",
    );
    check("$ssl_protocol,$trace_id,$reason", "-,-,-");
    check("é $uri", "é /x");
}

#[test]
fn every_variable_can_be_written() {
    for (name, help) in format::log_variables() {
        let format: LogFormat = format!("<${name}>").parse().unwrap();
        let mut line = Vec::new();
        format.line(&example(), &mut line);
        assert!(line.len() > 2 && !help.is_empty(), "{name}");
    }
}

#[test]
fn what_is_no_format_says_why() {
    let check = |text: &str, words: &str| {
        let error = text.parse::<LogFormat>().unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    };
    check("$remote_adr", "$remote_adr is no variable; $remote_addr is");
    check("$http_useragent", "$http_user_agent is");
    check("$zzzzzzzzzzzz", "docs/access-log.md");
    check("$status $ x", "at character 9");
    check("$status $", "without a name");
    check("${status", "not closed");
    check("jsn", "neither json nor combined");
    check("", "neither json nor combined");
    check("$status\n$uri", "control character");
}

/// Sends what is written to whoever listens.
struct Tell(Sender<u8>);

impl Write for Tell {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        bytes.iter().try_for_each(|&byte| self.0.send(byte)).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log(to: LogTarget, sample: f64) -> AccessLog {
    let format = "$uri $status".parse().unwrap();
    AccessLog::start(AccessLogSettings { to, format, sample }).unwrap()
}

fn line(path: &str) -> Arc<Record> {
    Arc::new(record("a.example", path, 200, SystemTime::now()))
}

#[test]
fn the_end_comes_behind_the_last_line() {
    let (bytes, written) = channel();
    let log = log(LogTarget::Writer(Box::new(Tell(bytes))), 1.0);
    for number in 0..1000 {
        log.push(line(&format!("/{number}")));
    }
    log.finish(WITHIN);
    let text = String::from_utf8(written.try_iter().collect()).unwrap();
    assert_eq!(text.lines().count(), 1000);
    assert!(text.ends_with("/999 200\n"));
    assert_eq!(log.dropped(), 0);
    log.push(line("/late"));
    log.finish(WITHIN);
    assert_eq!(log.dropped(), 1, "what comes behind the end is counted");
}

/// Takes nothing until it is let go, and then fails.
struct Stuck(std::sync::mpsc::Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_queue_drops_and_counts_and_nobody_waits() {
    let (release, held) = channel();
    let log = log(LogTarget::Writer(Box::new(Stuck(held))), 1.0);
    // More than the queue and the buffer of the writer can hold.
    let pushed = 40_000;
    for _ in 0..pushed {
        log.push(line("/x"));
    }
    assert!(log.dropped() > 0);
    log.finish(Duration::from_millis(10));
    drop(release);
    let until = std::time::Instant::now() + WITHIN;
    while log.dropped() < pushed {
        assert!(std::time::Instant::now() < until, "{} of {pushed}", log.dropped());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn failures_are_always_logged_and_the_rest_as_often_as_asked() {
    let (bytes, _written) = channel();
    let log = log(LogTarget::Writer(Box::new(Tell(bytes))), 0.25);
    assert!((0..100).all(|_| log.wants(true)));
    let count = (0..4000).filter(|_| log.wants(false)).count();
    assert!((600..1400).contains(&count), "{count}");
    assert!(crate::record::is_failure(StatusCode::from_u16(502).ok(), None));
    assert!(!crate::record::is_failure(StatusCode::from_u16(404).ok(), None));
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn a_file_that_was_moved_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let log = log(LogTarget::File(path.clone()), 1.0);
    log.push(line("/before"));
    let wait = |path: &Path, text: &str| {
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while read(path) != text {
            assert!(std::time::Instant::now() < until, "{} has {:?}", path.display(), read(path));
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait(&path, "/before 200\n");
    std::fs::rename(&path, &moved).unwrap();
    log.reopen();
    log.push(line("/behind"));
    wait(&path, "/behind 200\n");
    // Without being told it looks once a second.
    std::fs::remove_file(&path).unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while !path.exists() {
        assert!(std::time::Instant::now() < until);
        log.push(line("/x"));
        std::thread::sleep(Duration::from_millis(50));
    }
    log.finish(WITHIN);
    assert!(read(&path).ends_with("/x 200\n"));
    assert_eq!(read(&moved), "/before 200\n");
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_at_once() {
    let to = LogTarget::File("/nonexistent/folder/access.log".into());
    assert!(AccessLog::start(AccessLogSettings::json(to)).is_err());
}
