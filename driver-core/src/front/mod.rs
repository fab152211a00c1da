//! The HTTP front door of a server: WebSocket upgrades, and what the engine answers to the rest.
//!
//! Pages in browsers get nothing here that strangers do not get. No answer has a CORS header, and the API wants a
//! header of its own, so a browser asks before it sends such a request from another site and is not permitted
//! to; a page whose own name was made to lead here may send it, but does not know the key. An upgrade with an
//! `Origin`, which only browsers send, is judged by its token like every other one: a page that knows the token
//! has been given it, and wrong ones are counted against the address of the browser.

mod crowd;
mod limits;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use async_tungstenite::tungstenite::handshake::derive_accept_key;
use bytes::{Bytes, BytesMut};
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use linksocks_sansio::Token;
use linksocks_sansio::error::LinkFailure;
use linksocks_sansio::http::admin::{KEY_HEADER, MAX_BODY, too_large};
use linksocks_sansio::http::forwarded::TrustedProxies;
use linksocks_sansio::io::{HttpRequest, HttpResponse, UpgradeRequest, is_link_path};
use linksocks_sansio::link::EXTENSIONS_HEADER;

use self::crowd::{Crowd, Place};
use crate::adapters::{HyperStream, HyperTimer};
use crate::error::upgrade_error;
use crate::pumps::upgrade::has_token;
use crate::pumps::{Inbox, link, listener};
use crate::request::{OfferAnswer, Request, Requests};
use crate::runtime::{Accepted, Runtime};
use crate::transport::{Acceptor, Transport};

/// The only WebSocket version there is (RFC 6455 section 4.1).
const WEBSOCKET_VERSION: &str = "13";
/// The length of a WebSocket key: 16 bytes in base64.
const KEY_LENGTH: usize = 24;

type Question = hyper::Request<Incoming>;
type Answer = Response<Full<Bytes>>;

/// The header in which reverse proxies have always named their clients.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What the connections of a front door have in common. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Front {
    acceptor: Acceptor,
    trusted: Arc<TrustedProxies>,
    requests: Requests,
    crowd: Crowd,
}

impl Front {
    /// `trusted` may say in headers whose requests they pass on.
    pub(crate) fn new(acceptor: Acceptor, trusted: TrustedProxies, requests: Requests) -> Self {
        Self { acceptor, trusted: Arc::new(trusted), requests, crowd: Crowd::default() }
    }

    fn enter(&self, peer: SocketAddr) -> Option<Place> {
        if self.trusted.contain(peer.ip()) {
            self.crowd.enter_freely(peer.ip())
        } else {
            self.crowd.enter(peer.ip())
        }
    }

    /// Who is behind `peer`.
    fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        let values = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes);
        self.trusted.client(peer, values(X_FORWARDED_FOR), values(header::FORWARDED))
    }
}

/// Serves HTTP until the other end of `stop` is dropped. `inbox` tells the owner that the listener is
/// still open.
pub(crate) async fn serve<R: Runtime>(
    runtime: R,
    listener: R::Listener,
    front: Front,
    mut stop: oneshot::Receiver<Infallible>,
    inbox: Inbox,
) {
    let mut acceptor = listener::Acceptor::default();
    loop {
        let accept = pin!(acceptor.accept(&runtime, &listener));
        let Accepted { stream, peer, .. } = match select(&mut stop, accept).await {
            Either::Left(_) => break,
            Either::Right((accepted, _)) => accepted,
        };
        let Some(place) = front.enter(peer) else { continue };
        let (accepting, front) = (runtime.clone(), front.clone());
        runtime.spawn(async move {
            let handshake = pin!(front.acceptor.accept(stream));
            let timeout = pin!(accepting.sleep(limits::HANDSHAKE));
            if let Either::Left((Some(stream), _)) = select(handshake, timeout).await {
                serve_connection(&accepting, stream, peer, &front).await;
            }
            drop(place);
        });
    }
    // Parameters would go the other way round.
    drop(listener);
    drop(inbox);
}

async fn serve_connection<R: Runtime>(
    runtime: &R,
    stream: Transport<R::Stream>,
    peer: SocketAddr,
    front: &Front,
) {
    let service = service_fn(|request| {
        let (runtime, front) = (runtime.clone(), front.clone());
        async move { Ok::<_, Infallible>(respond(runtime, front, peer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(HyperTimer(runtime.clone()))
        .header_read_timeout(limits::HEAD)
        .max_buf_size(limits::HEAD_BYTES)
        .max_headers(limits::HEADER_FIELDS)
        .title_case_headers(true)
        .serve_connection(HyperStream(stream), service)
        .with_upgrades();
    // How it ended is of no interest: hyper has answered what could be answered.
    let _ = select(pin!(connection), pin!(runtime.sleep(limits::CONNECTION))).await;
}

async fn respond<R: Runtime>(runtime: R, front: Front, peer: SocketAddr, request: Question) -> Answer {
    let client = front.client(peer, request.headers());
    let share = if client == peer { None } else { Some(front.crowd.share(client.ip())) };
    if let Some(None) = share {
        return text(StatusCode::SERVICE_UNAVAILABLE, "too many connections from this address\n");
    }
    let answer = if !is_link_path(request.uri().path()) {
        ask(front.requests, client, request).await
    } else if let Some(key) = websocket_key(&request) {
        offer(runtime, front.requests, client, request, &key).await
    } else {
        bad_upgrade()
    };
    drop(share);
    answer
}

/// Lets the engine answer.
async fn ask(requests: Requests, peer: SocketAddr, request: Question) -> Answer {
    let (head, body) = request.into_parts();
    let key = head.headers.get(KEY_HEADER).and_then(|value| str::from_utf8(value.as_bytes()).ok());
    let api_key = key.and_then(|key| Token::new(key).ok());
    let body = match read_body(body, api_key.is_some()).await {
        Ok(body) => body,
        Err(BodyError::TooLong) => return answer(too_large()),
        Err(BodyError::Broken) => return text(StatusCode::BAD_REQUEST, "the body is broken\n"),
    };
    let (method, path) = (head.method.as_str().to_owned(), head.uri.path().to_owned());
    let (sender, answered) = oneshot::channel();
    let request = Box::new(HttpRequest { peer, method, path, api_key, body });
    requests.put(Request::Http { request, answer: sender });
    match answered.await {
        Ok(response) => answer(response),
        Err(oneshot::Canceled) => shutting_down(),
    }
}

/// Why there is no body.
#[derive(Debug)]
enum BodyError {
    TooLong,
    /// It is no proper HTTP, or the peer has left.
    Broken,
}

/// Reads a body, and if it is too long, some more of it. Strangers get no memory: unless `keeps`, what comes
/// is dropped.
async fn read_body(mut body: Incoming, keeps: bool) -> Result<Bytes, BodyError> {
    let mut kept = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        length += data.len();
        if length > limits::DISCARDED_BYTES {
            break;
        }
        if keeps && length <= MAX_BODY {
            kept.extend_from_slice(&data);
        }
    }
    if length > MAX_BODY { Err(BodyError::TooLong) } else { Ok(kept.freeze()) }
}

/// The key of a valid upgrade request (RFC 6455 section 4.2.1), which has no body: that would be taken for the
/// first frames, or the other way round.
fn websocket_key(request: &Question) -> Option<HeaderValue> {
    let headers = request.headers();
    let valid = request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && request.body().is_end_stream()
        && has_token(headers, header::CONNECTION, "upgrade")
        && has_token(headers, header::UPGRADE, "websocket")
        && headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == WEBSOCKET_VERSION);
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
    // 16 bytes in Base64.
    let digits = key.as_bytes().strip_suffix(b"==")?;
    let encoded = digits.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    (valid && encoded && key.len() == KEY_LENGTH).then(|| key.clone())
}

/// Asks the engine, and upgrades if it agrees.
async fn offer<R: Runtime>(
    runtime: R,
    requests: Requests,
    peer: SocketAddr,
    request: Question,
    key: &HeaderValue,
) -> Answer {
    let (sender, answered) = oneshot::channel();
    let offer = UpgradeRequest {
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        extensions: request
            .headers()
            .get(EXTENSIONS_HEADER)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned),
        peer,
    };
    requests.put(Request::Offer { request: offer, answer: sender });
    match answered.await {
        Ok(OfferAnswer::Accept { link, extensions, commands, inbox }) => {
            let upgrade = upgrade::<R>(request);
            runtime.clone().spawn(link::accept(runtime, upgrade, link, commands, inbox));
            switching_protocols(key, extensions)
        }
        Ok(OfferAnswer::Reject { status, reason }) => {
            text(StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN), reason)
        }
        Err(oneshot::Canceled) => shutting_down(),
    }
}

/// Takes the connection back from hyper, with what hyper has read too much.
async fn upgrade<R: Runtime>(request: Question) -> Result<(Transport<R::Stream>, Vec<u8>), LinkFailure> {
    let upgraded = hyper::upgrade::on(request).await.map_err(|error| upgrade_error(&error))?;
    let parts = upgraded
        .downcast::<HyperStream<Transport<R::Stream>>>()
        .expect("the connection was served over this type");
    Ok((parts.io.0, parts.read_buf.into()))
}

fn switching_protocols(key: &HeaderValue, extensions: Option<String>) -> Answer {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let mut insert = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    insert(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()));
    if let (Some(extensions), Ok(name)) = (extensions, HeaderName::try_from(EXTENSIONS_HEADER)) {
        insert(name, extensions);
    }
    response
}

fn bad_upgrade() -> Answer {
    let mut response = text(StatusCode::BAD_REQUEST, "Bad Request\n");
    response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(WEBSOCKET_VERSION));
    response
}

/// The engine has stopped before it answered.
fn shutting_down() -> Answer {
    text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n")
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let content_type = "text/plain; charset=utf-8";
    answer(HttpResponse { status: status.as_u16(), content_type, body: body.into() })
}

fn answer(response: HttpResponse) -> Answer {
    let HttpResponse { status, content_type, body } = response;
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // One request each: nobody can hold a connection by sending ever more of them. (Disabling
    // keep-alive in hyper would add this to the answer to an upgrade as well.)
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
