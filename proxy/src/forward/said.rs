//! What trusted proxies said about a client, in `Forwarded` (RFC 7239) or in `X-Forwarded-*`.
//!
//! Backends read one family or the other, so both must say the same. Where a proxy sent both,
//! `X-Forwarded-*` counts: it is what [`--trusted-proxy`](crate::ProxySettings::trusted_proxies)
//! promises, and a proxy that speaks one family passes the other on as a stranger wrote it.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderValue};
use ipnet::IpNet;
use kubeng_config::request::Scheme;

use super::{X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, is_trusted};

/// What was said, in whichever family.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Said {
    /// Who was connected to whom, the farthest first. None: what stands there is no address.
    nodes: Vec<Option<IpAddr>>,
    /// The scheme that the client itself used.
    pub(super) proto: Option<HeaderValue>,
    /// The host that the client itself asked for.
    pub(super) host: Option<HeaderValue>,
    /// Whether it was said in `Forwarded`, and not in `X-Forwarded-For`.
    pub(super) is_by_forwarded: bool,
    /// Whether `Forwarded` is there and says the very same.
    pub(super) is_in_forwarded: bool,
}

/// Who the client is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Client {
    /// The nearest address that is none of our proxies.
    Is(IpAddr),
    /// Nothing else was said than proxies of ours.
    OnlyProxies,
    /// A proxy of ours names somebody by what is no address.
    Unknown,
}

impl Said {
    /// Reads what a trusted proxy said.
    pub(super) fn read(fields: &HeaderMap, trusted: &[IpNet]) -> Self {
        let is_by_forwarded = is_said_by_forwarded(fields);
        let (elements, is_whole) = elements(fields);
        let told = nodes(&elements);
        let mut said = Self {
            nodes: if is_by_forwarded { told.clone() } else { for_nodes(fields) },
            proto: None,
            host: fields.get(X_FORWARDED_HOST).cloned(),
            is_by_forwarded,
            is_in_forwarded: false,
        };
        let at = client_at(&said.nodes, trusted);
        said.proto = proto(fields, said.nodes.len(), at);
        if told != said.nodes {
            return said;
        }
        if let Some(Element { proto, host, .. }) = elements.into_iter().nth(at) {
            // What the other family leaves out.
            said.proto = said.proto.or_else(|| proto.clone());
            said.host = said.host.or_else(|| host.clone());
            let is_all = is_same(&said.proto, &proto) && is_same(&said.host, &host);
            said.is_in_forwarded = is_whole && is_all;
        }
        said
    }

    /// Who the client is.
    pub(super) fn client(&self, trusted: &[IpNet]) -> Client {
        client(&self.nodes, trusted)
    }

    /// The nodes for `X-Forwarded-For`.
    pub(super) fn nodes_text(&self) -> Option<HeaderValue> {
        let texts: Vec<String> = self
            .nodes
            .iter()
            .map(|node| node.map_or_else(|| UNKNOWN.to_owned(), |address| address.to_string()))
            .collect();
        HeaderValue::from_str(&texts.join(", ")).ok().filter(|text| !text.is_empty())
    }

    /// The same as elements of `Forwarded`; None when nobody was named.
    pub(super) fn forwarded(&self, trusted: &[IpNet]) -> Option<HeaderValue> {
        let at = client_at(&self.nodes, trusted);
        let mut text = String::with_capacity(96);
        for (number, node) in self.nodes.iter().enumerate() {
            text.push_str(if number == 0 { "for=" } else { ", for=" });
            match node {
                Some(IpAddr::V4(address)) => text.push_str(&address.to_string()),
                Some(IpAddr::V6(address)) => text.push_str(&format!("\"[{address}]\"")),
                None => text.push_str(UNKNOWN),
            }
            if number == at {
                if let Some(host) = self.host.as_ref().filter(|host| is_host(host)) {
                    text.push_str(&format!(";host=\"{}\"", host.to_str().unwrap_or_default()));
                }
                if let Some(proto) = self.proto.as_ref().filter(|proto| is_scheme(proto)) {
                    text.push_str(&format!(";proto={}", proto.to_str().unwrap_or_default()));
                }
            }
        }
        HeaderValue::from_str(&text).ok().filter(|text| !text.is_empty())
    }

    /// Host and scheme for an element of ours, where the connection itself tells `host` and `proto`.
    ///
    /// They stand once, in the element of the client: readers differ in whether they take the
    /// first or the last.
    pub(super) fn untold<'a>(
        &'a self,
        host: Option<&'a HeaderValue>,
        proto: &'a HeaderValue,
    ) -> (Option<&'a HeaderValue>, Option<&'a HeaderValue>) {
        if self.nodes.is_empty() {
            // The element of ours is that of the client.
            let told_host = self.host.as_ref().or(host).filter(|host| is_host(host));
            let told_proto = self.proto.as_ref().unwrap_or(proto);
            return (told_host, Some(told_proto).filter(|proto| is_scheme(proto)));
        }
        let is_proto_told = self.proto.is_some();
        (host.filter(|_| self.host.is_none()), Some(proto).filter(|_| !is_proto_told))
    }
}

/// Who the client is, from the fields of a trusted proxy.
pub(super) fn client_of(fields: &HeaderMap, trusted: &[IpNet]) -> Client {
    let nodes =
        if is_said_by_forwarded(fields) { nodes(&elements(fields).0) } else { for_nodes(fields) };
    client(&nodes, trusted)
}

/// The scheme that the client used, from the fields of a trusted proxy; None where nothing usable is
/// said.
pub(super) fn scheme_of(fields: &HeaderMap, trusted: &[IpNet]) -> Option<Scheme> {
    if let Some(word) = only_word(fields) {
        return scheme(word.as_bytes());
    }
    if !fields.contains_key(X_FORWARDED_PROTO) && !fields.contains_key(header::FORWARDED) {
        return None;
    }
    scheme(Said::read(fields, trusted).proto?.as_bytes())
}

/// WebSockets are asked for over HTTP, and some proxies say so.
fn scheme(text: &[u8]) -> Option<Scheme> {
    if text.eq_ignore_ascii_case(b"https") || text.eq_ignore_ascii_case(b"wss") {
        Some(Scheme::Https)
    } else if text.eq_ignore_ascii_case(b"http") || text.eq_ignore_ascii_case(b"ws") {
        Some(Scheme::Http)
    } else {
        None
    }
}

/// What `X-Forwarded-Proto` says of the client, who stands at `at` among so many nodes.
///
/// Proxies that append to it say one word for each node. Where that does not fit, only the last word
/// is for certain that of a proxy which is trusted: the others may be a client's own.
fn proto(fields: &HeaderMap, nodes: usize, at: usize) -> Option<HeaderValue> {
    if let Some(word) = only_word(fields) {
        return Some(word.clone());
    }
    let lines = fields.get_all(X_FORWARDED_PROTO).iter();
    let words: Vec<&[u8]> =
        lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b',')).collect();
    let word = if words.len() == nodes { words.get(at) } else { words.last() };
    HeaderValue::from_bytes(word?.trim_ascii()).ok()
}

/// What `X-Forwarded-Proto` says where it is no list.
fn only_word(fields: &HeaderMap) -> Option<&HeaderValue> {
    let mut lines = fields.get_all(X_FORWARDED_PROTO).iter();
    let first = lines.next()?;
    (lines.next().is_none() && !first.as_bytes().contains(&b',')).then_some(first)
}

/// Whether `Forwarded` counts: nothing else says who the client is, and how it came.
fn is_said_by_forwarded(fields: &HeaderMap) -> bool {
    fields.contains_key(header::FORWARDED)
        && !fields.contains_key(X_FORWARDED_FOR)
        && !fields.contains_key(X_FORWARDED_PROTO)
}

fn client(nodes: &[Option<IpAddr>], trusted: &[IpNet]) -> Client {
    match nodes.iter().rfind(|node| !is_ours(node, trusted)) {
        Some(Some(address)) => Client::Is(*address),
        Some(None) => Client::Unknown,
        None => Client::OnlyProxies,
    }
}

/// Where the client stands among `nodes`: the nearest that is none of our proxies, else the farthest.
fn client_at(nodes: &[Option<IpAddr>], trusted: &[IpNet]) -> usize {
    nodes.iter().rposition(|node| !is_ours(node, trusted)).unwrap_or_default()
}

fn is_ours(node: &Option<IpAddr>, trusted: &[IpNet]) -> bool {
    node.is_some_and(|address| is_trusted(address, trusted))
}

/// What `X-Forwarded-For` names.
fn for_nodes(fields: &HeaderMap) -> Vec<Option<IpAddr>> {
    let mut nodes = Vec::new();
    for line in fields.get_all(X_FORWARDED_FOR) {
        match line.to_str() {
            Ok(line) => nodes.extend(line.split(',').map(|text| address(text.trim_ascii()))),
            Err(_) => nodes.push(None),
        }
    }
    nodes
}

/// An address, with or without a port, as proxies write it.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse();
    let address = address.or_else(|_| text.parse().map(|to: SocketAddr| to.ip()));
    Some(address.ok()?.to_canonical())
}

/// One element of `Forwarded`.
#[derive(Debug, Default)]
struct Element {
    node: Option<IpAddr>,
    proto: Option<HeaderValue>,
    host: Option<HeaderValue>,
}

fn nodes(elements: &[Element]) -> Vec<Option<IpAddr>> {
    elements.iter().map(|element| element.node).collect()
}

/// The elements of `Forwarded` (RFC 7239 section 4), the farthest first, and whether every line is
/// well formed. One that is not is an element that names nobody.
fn elements(fields: &HeaderMap) -> (Vec<Element>, bool) {
    let (mut all, mut is_whole) = (Vec::new(), true);
    for line in fields.get_all(header::FORWARDED) {
        if let Some(elements) = line.to_str().ok().and_then(line_elements) {
            all.extend(elements);
        } else {
            all.push(Element::default());
            is_whole = false;
        }
    }
    (all, is_whole)
}

/// The elements of one line; None when it is malformed.
fn line_elements(line: &str) -> Option<Vec<Element>> {
    let mut elements = vec![];
    let mut element = None;
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        // Elements and pairs may be empty.
        if rest.is_empty() {
            elements.extend(element);
            return Some(elements);
        } else if let Some(next) = rest.strip_prefix(',') {
            elements.extend(element.take());
            rest = next;
        } else if let Some(next) = rest.strip_prefix(';') {
            rest = next;
        } else {
            let element: &mut Element = element.get_or_insert_default();
            rest = pair(rest, element)?;
        }
    }
}

/// Reads the pair that `text` begins with, and gives what is behind it.
fn pair<'a>(text: &'a str, element: &mut Element) -> Option<&'a str> {
    let (name, behind) = text.split_once('=')?;
    let (value, behind) = value(behind)?;
    match name {
        _ if name.eq_ignore_ascii_case("for") => element.node = address(&value),
        _ if name.eq_ignore_ascii_case("proto") => element.proto = field(&value),
        _ if name.eq_ignore_ascii_case("host") => element.host = field(&value),
        // `by`, and what others may add.
        _ if is_token(name) => {}
        _ => return None,
    }
    let behind = behind.trim_ascii_start();
    (behind.is_empty() || behind.starts_with([';', ','])).then_some(behind)
}

/// A token or quoted string at the begin of `text`, without its quotes, and what is behind it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',', ' ', '\t']).unwrap_or(text.len());
        let (value, behind) = text.split_at(end);
        return is_token(value).then(|| (value.to_owned(), behind));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// Whether it may stand without quotes (RFC 9110 section 5.6.2). Some proxies leave the quotes of
/// addresses with a port out.
fn is_token(text: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:[]".contains(&byte);
    !text.is_empty() && text.bytes().all(is_fine)
}

fn field(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok()
}

fn is_same(one: &Option<HeaderValue>, other: &Option<HeaderValue>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.as_bytes().eq_ignore_ascii_case(other.as_bytes()),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Whether it may stand in `Forwarded` as it is.
fn is_scheme(value: &HeaderValue) -> bool {
    let is_fine = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    !value.is_empty() && value.as_bytes().iter().all(is_fine)
}

/// Whether it may stand between quotes as it is.
fn is_host(value: &HeaderValue) -> bool {
    let is_fine = |byte: &u8| byte.is_ascii_graphic() && !b"\"\\,".contains(byte);
    !value.is_empty() && value.as_bytes().iter().all(is_fine)
}

const UNKNOWN: &str = "unknown";

#[cfg(test)]
mod tests;
