//! Heads of requests and responses: what they ask for, and what is passed on of them.

use std::collections::BTreeSet;

use bytes::Bytes;
use httparse::Header;

use super::basic;
use super::body::Body;
use super::head::MAX_FIELDS;
use super::refusal::Refusal;
use crate::secret::Credentials;
use crate::socks5::TargetAddr;

/// The ports that URLs leave out.
const HTTP_PORT: &str = "80";
const HTTPS_PORT: &str = "443";

/// What a client asks a proxy for.
#[derive(Debug)]
pub(super) enum Request {
    /// CONNECT.
    Tunnel(TargetAddr),
    /// A request for a target.
    Forward(Box<Forward>),
}

/// A request to be passed on.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) target: TargetAddr,
    /// In origin form, without what concerns only this connection.
    pub(super) head: Bytes,
    pub(super) body: Body,
    pub(super) context: Context,
}

/// What the answer to a request depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Context {
    /// The method is HEAD: there is no body, whatever the head says.
    pub(super) to_head: bool,
    /// The client speaks HTTP/1.0: no chunks, no provisional answers, one request.
    pub(super) http10: bool,
    /// The client may send another request.
    pub(super) persistent: bool,
    /// The client offers to speak another protocol.
    pub(super) upgrade: bool,
}

/// What a client must present to a proxy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Login<'a> {
    pub(super) credentials: &'a Credentials,
    /// Whether no login is looked at: too many were wrong.
    pub(super) locked: bool,
}

impl Login<'_> {
    fn check(self, fields: &Fields<'_, '_>) -> Result<(), Refusal> {
        let mut given = fields.values("proxy-authorization");
        match (given.next(), given.next()) {
            (None, _) => Err(Refusal::LoginRequired),
            _ if self.locked => Err(Refusal::TooManyFailures),
            // Of several, each would be a guess, and all together would count as one.
            (Some(value), None) if basic::matches(value, self.credentials) => Ok(()),
            _ => Err(Refusal::WrongLogin),
        }
    }
}

/// Reads the head of a request to a proxy.
pub(super) fn read_request(head: &[u8], login: Option<Login<'_>>) -> Result<Request, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    if !matches!(request.parse(head), Ok(httparse::Status::Complete(_))) {
        return Err(Refusal::BadRequest("Malformed request"));
    }
    let (Some(method), Some(uri), Some(version)) = (request.method, request.path, request.version) else {
        return Err(Refusal::BadRequest("Malformed request"));
    };
    let fields = Fields::new(request.headers);
    if let Some(login) = login {
        login.check(&fields)?;
    }
    let http10 = version == 0;
    let body = request_body(&fields, http10)?;
    if fields.values("host").count() > 1 {
        return Err(Refusal::BadRequest("More than one Host"));
    }
    if method == "CONNECT" {
        if body != Body::NONE {
            return Err(Refusal::BadRequest("CONNECT with a body"));
        }
        let target = authority(uri, HTTPS_PORT).ok_or(Refusal::BadRequest("Invalid CONNECT target"))?;
        return Ok(Request::Tunnel(target));
    }
    let (host, path) = split_url(uri)?;
    let host = without_empty_port(host);
    let target = authority(host, HTTP_PORT).ok_or(Refusal::BadRequest("Invalid host in the URL"))?;
    let upgrade = !http10 && body == Body::NONE && fields.connection_has("upgrade") && fields.has("upgrade");
    let mut out = Vec::with_capacity(head.len() + 64);
    let path = match path {
        "" if method == "OPTIONS" => "*".to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    };
    out.extend_from_slice(format!("{method} {path} HTTP/1.{version}\r\nHost: {host}\r\n").as_bytes());
    fields.pass_on(&mut out, |name| !name.eq_ignore_ascii_case("host"));
    write_framing(&mut out, &body, !body.is_complete() || fields.has("content-length"));
    finish(&mut out, &fields, upgrade, true);
    let persistent = !http10 && !fields.connection_has("close");
    let context = Context { to_head: method == "HEAD", http10, persistent, upgrade };
    Ok(Request::Forward(Box::new(Forward { target, head: out.into(), body, context })))
}

/// Splits an `http` URL into authority and the rest, as they are.
fn split_url(uri: &str) -> Result<(&str, &str), Refusal> {
    let Some((scheme, rest)) = uri.split_once("://").filter(|(scheme, _)| !scheme.contains(['/', '?']))
    else {
        return Err(Refusal::BadRequest("Absolute-form request URL required"));
    };
    if scheme.eq_ignore_ascii_case("https") {
        return Err(Refusal::BadRequest("Use CONNECT for HTTPS targets"));
    }
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(Refusal::BadRequest("Unsupported URL scheme"));
    }
    if rest.contains('#') {
        return Err(Refusal::BadRequest("Fragment in the URL"));
    }
    Ok(rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())))
}

/// Leaves out the colon of an empty port, which stands for the default one (RFC 3986 section 3.2.3). A
/// CONNECT must name its port (RFC 9110 section 9.3.6), so this is for other requests.
fn without_empty_port(authority: &str) -> &str {
    match authority.strip_suffix(':') {
        Some(host) if !host.contains(':') || host.ends_with(']') => host,
        Some(_) | None => authority,
    }
}

/// Reads `host[:port]`. What else belongs to a URL is an error: user info would hide which host is
/// meant.
fn authority(text: &str, default_port: &str) -> Option<TargetAddr> {
    if text.contains(['@', '/', '?', '#', '\\']) {
        return None;
    }
    let has_port = text.rsplit_once(':').is_some_and(|(_, behind)| !behind.contains(']'));
    if has_port { text.parse().ok() } else { format!("{text}:{default_port}").parse().ok() }
}

/// The body of a request; anything that could be understood in two ways is refused (RFC 9112
/// section 11.2).
fn request_body(fields: &Fields<'_, '_>, http10: bool) -> Result<Body, Refusal> {
    let mut codings = fields.values("transfer-encoding");
    let mut lengths = fields.values("content-length");
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(Body::NONE),
        (Some(_), Some(_)) => Err(Refusal::BadRequest("Both Transfer-Encoding and Content-Length")),
        (Some(_), None) if http10 => Err(Refusal::BadRequest("Transfer-Encoding in HTTP/1.0")),
        (Some(coding), None) if is_chunked(coding) && codings.next().is_none() => Ok(Body::chunked(false)),
        (Some(_), None) => Err(Refusal::UnknownCoding),
        (None, Some(length)) => match (read_length(length), lengths.next()) {
            (Some(length), None) => Ok(Body::Length(length)),
            (None, _) => Err(Refusal::BadRequest("Invalid Content-Length")),
            (_, Some(_)) => Err(Refusal::BadRequest("More than one Content-Length")),
        },
    }
}

/// The head of a response, and what follows it.
#[derive(Debug)]
pub(super) enum Response {
    /// Provisional (1xx); the final one follows. Empty if the client would not understand it.
    Provisional(Bytes),
    /// 101: the connection speaks another protocol from now on.
    Upgraded(Bytes),
    Final(FinalResponse),
}

#[derive(Debug)]
pub(super) struct FinalResponse {
    pub(super) head: Bytes,
    pub(super) body: Body,
    /// The body is to be sent in chunks although it came in one piece.
    pub(super) in_chunks: bool,
    /// The client may send another request behind it.
    pub(super) persistent: bool,
}

/// Reads the head of a response; `None`: it can't be passed on.
pub(super) fn read_response(head: &[u8], context: Context) -> Option<Response> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    if !matches!(response.parse(head), Ok(httparse::Status::Complete(_))) {
        return None;
    }
    let (status, version) = (response.code?, response.version?);
    let mut out = Vec::with_capacity(head.len() + 64);
    out.extend_from_slice(
        format!("HTTP/1.1 {status} {}\r\n", response.reason.unwrap_or_default()).as_bytes(),
    );
    let fields = Fields::new(response.headers);
    fields.pass_on(&mut out, |_| true);
    match status {
        101 if context.upgrade => {
            finish(&mut out, &fields, true, false);
            return Some(Response::Upgraded(out.into()));
        }
        101 | 0..100 => return None,
        100..200 if context.http10 => return Some(Response::Provisional(Bytes::new())),
        100..200 => {
            out.extend_from_slice(b"\r\n");
            return Some(Response::Provisional(out.into()));
        }
        _ => {}
    }
    let framing = response_framing(&fields, version)?;
    let bodiless = context.to_head || matches!(status, 204 | 304);
    let body = if bodiless { Body::NONE } else { framing.clone() };
    let in_chunks = body == Body::UntilClose && !context.http10;
    if context.http10 && matches!(body, Body::Chunked(_)) {
        return None;
    }
    if in_chunks {
        write_framing(&mut out, &Body::chunked(true), true);
    } else if !bodiless || status != 204 && matches!(framing, Body::Length(_)) {
        // Without a body: what the length would be for GET.
        write_framing(&mut out, &framing, true);
    }
    let persistent = context.persistent && (in_chunks || body != Body::UntilClose);
    finish(&mut out, &fields, false, !persistent);
    Some(Response::Final(FinalResponse { head: out.into(), body, in_chunks, persistent }))
}

/// How a response says that its body ends, whether it has one or not.
fn response_framing(fields: &Fields<'_, '_>, version: u8) -> Option<Body> {
    let mut codings = fields.values("transfer-encoding");
    if let Some(coding) = codings.next() {
        // Overrides a length (RFC 9112 section 6.3), which is not passed on.
        let known = version == 1 && is_chunked(coding) && codings.next().is_none();
        return known.then(|| Body::chunked(true));
    }
    let mut lengths = fields.list("content-length").map(read_length);
    let Some(first) = lengths.next() else { return Some(Body::UntilClose) };
    let first = first?;
    // Repeated by mistake it still has one meaning.
    lengths.all(|length| length == Some(first)).then_some(Body::Length(first))
}

fn is_chunked(coding: &[u8]) -> bool {
    coding.eq_ignore_ascii_case(b"chunked")
}

/// Digits only: `u64::from_str` would take a plus sign.
fn read_length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

/// Says where the body ends. An empty body needs no word if `explicit` is false.
fn write_framing(out: &mut Vec<u8>, body: &Body, explicit: bool) {
    match body {
        Body::Length(length) if explicit => {
            out.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
        }
        Body::Chunked(_) => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Body::Length(_) | Body::UntilClose => {}
    }
}

/// Says what becomes of the connection, and ends the head.
fn finish(out: &mut Vec<u8>, fields: &Fields<'_, '_>, upgrade: bool, close: bool) {
    if upgrade {
        for value in fields.values("upgrade") {
            write_field(out, "Upgrade", value);
        }
        out.extend_from_slice(b"Connection: Upgrade\r\n");
    } else if close {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The header fields of a head.
struct Fields<'a, 'b> {
    fields: &'a [Header<'b>],
    /// What the sender says of this connection, and which fields are only for it; in lower case.
    options: BTreeSet<Vec<u8>>,
}

impl<'a, 'b> Fields<'a, 'b> {
    fn new(fields: &'a [Header<'b>]) -> Self {
        let mut new = Self { fields, options: BTreeSet::new() };
        let options = new.list("connection").chain(new.list("proxy-connection"));
        new.options = options.map(<[u8]>::to_ascii_lowercase).collect();
        new
    }

    /// The values of all fields of that name.
    fn values(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        let fields = self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| field.value.trim_ascii())
    }

    fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }

    /// The elements of a list, over all fields of that name.
    fn list(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.values(name).flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
    }

    /// Whether the sender says so of this connection. In lower case.
    fn connection_has(&self, option: &str) -> bool {
        self.options.contains(option.as_bytes())
    }

    /// Whether a field concerns only the connection that it came on (RFC 9110 section 7.6.1), or the
    /// framing of the body, which is written anew.
    fn is_hop_by_hop(&self, name: &str) -> bool {
        const KNOWN: [&str; 7] = [
            "connection",
            "keep-alive",
            "te",
            "transfer-encoding",
            "content-length",
            "upgrade",
            "http2-settings",
        ];
        let name = name.to_ascii_lowercase();
        KNOWN.contains(&name.as_str()) || name.starts_with("proxy-") || self.options.contains(name.as_bytes())
    }

    /// Writes the fields that are for the other end.
    fn pass_on(&self, out: &mut Vec<u8>, wanted: impl Fn(&str) -> bool) {
        for field in self.fields {
            if wanted(field.name) && !self.is_hop_by_hop(field.name) {
                write_field(out, field.name, field.value);
            }
        }
    }
}

#[cfg(test)]
mod tests;
