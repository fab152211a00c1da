//! The HTTP front door of a server: WebSocket upgrades, and a line for people who look in.

use std::convert::Infallible;
use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_tungstenite::tungstenite::handshake::derive_accept_key;
use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use linksocks_sansio::error::{LinkFailure, SocketError};
use linksocks_sansio::io::UpgradeRequest;
use linksocks_sansio::link::EXTENSIONS_HEADER;

use crate::adapters::{HyperStream, HyperTimer};
use crate::error::socket_error;
use crate::pumps::{Inbox, link, listener};
use crate::request::{OfferAnswer, Request, Requests};
use crate::runtime::{Accepted, Runtime};

/// Connections that are not WebSockets yet; further ones are closed unread.
const MAX_CONNECTIONS: usize = 1024;
/// How long a request may take to come in.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take altogether before it is a WebSocket.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest request head.
const MAX_HEAD: usize = 16 * 1024;
/// The only WebSocket version there is (RFC 6455 section 4.1).
const WEBSOCKET_VERSION: &str = "13";
/// The length of a WebSocket key: 16 bytes in base64.
const KEY_LENGTH: usize = 24;

type HttpRequest = hyper::Request<Incoming>;
type HttpResponse = Response<Full<Bytes>>;

/// Serves HTTP until the other end of `stop` is dropped. `_inbox` tells the owner that the listener
/// is still open.
pub(crate) async fn serve<R: Runtime>(
    runtime: R,
    listener: R::Listener,
    requests: Requests,
    mut stop: oneshot::Receiver<Infallible>,
    _inbox: Inbox,
) {
    // Each connection holds a clone.
    let slots = Arc::new(());
    loop {
        let accept = pin!(listener::accept(&runtime, &listener));
        let Accepted { stream, peer, .. } = match select(&mut stop, accept).await {
            Either::Left(_) => return,
            Either::Right((accepted, _)) => accepted,
        };
        if Arc::strong_count(&slots) > MAX_CONNECTIONS {
            continue;
        }
        let slot = Arc::clone(&slots);
        let connection = serve_connection(runtime.clone(), stream, peer, requests.clone());
        runtime.spawn(async move {
            connection.await;
            drop(slot);
        });
    }
}

async fn serve_connection<R: Runtime>(runtime: R, stream: R::Stream, peer: SocketAddr, requests: Requests) {
    let service = service_fn(|request| {
        let (runtime, requests) = (runtime.clone(), requests.clone());
        async move { Ok::<_, Infallible>(respond(runtime, requests, peer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(HyperTimer(runtime.clone()))
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .title_case_headers(true)
        .serve_connection(HyperStream(stream), service)
        .with_upgrades();
    // How it ended is of no interest: hyper has answered what could be answered.
    let _ = select(pin!(connection), pin!(runtime.sleep(CONNECTION_TIMEOUT))).await;
}

async fn respond<R: Runtime>(
    runtime: R,
    requests: Requests,
    peer: SocketAddr,
    request: HttpRequest,
) -> HttpResponse {
    let path = request.uri().path();
    if path == "/socket" || path.starts_with("/socket/") {
        return match websocket_key(&request) {
            Some(key) => offer(runtime, requests, peer, request, &key).await,
            None => bad_upgrade(),
        };
    }
    if path == "/" {
        let version = env!("CARGO_PKG_VERSION");
        return text(StatusCode::OK, format!("LinkSocks v{version} is running but API is not enabled.\n"));
    }
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// The key of a valid upgrade request (RFC 6455 section 4.2.1).
fn websocket_key(request: &HttpRequest) -> Option<HeaderValue> {
    let headers = request.headers();
    let valid = request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && has_token(headers, header::CONNECTION, "upgrade")
        && has_token(headers, header::UPGRADE, "websocket")
        && headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == WEBSOCKET_VERSION);
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
    // 16 bytes in Base64.
    let digits = key.as_bytes().strip_suffix(b"==")?;
    let encoded = digits.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    (valid && encoded && key.len() == KEY_LENGTH).then(|| key.clone())
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// Asks the engine, and upgrades if it agrees.
async fn offer<R: Runtime>(
    runtime: R,
    requests: Requests,
    peer: SocketAddr,
    request: HttpRequest,
    key: &HeaderValue,
) -> HttpResponse {
    let (answer, answered) = oneshot::channel();
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
    requests.put(Request::Offer { request: offer, answer });
    match answered.await {
        Ok(OfferAnswer::Accept { link, extensions, commands, inbox }) => {
            let upgrade = upgrade::<R>(request);
            runtime.clone().spawn(link::accept(runtime, upgrade, link, commands, inbox));
            switching_protocols(key, extensions)
        }
        Ok(OfferAnswer::Reject { status, reason }) => {
            text(StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN), reason)
        }
        Err(oneshot::Canceled) => text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n"),
    }
}

/// Takes the connection back from hyper, with what hyper has read too much.
async fn upgrade<R: Runtime>(request: HttpRequest) -> Result<(R::Stream, Vec<u8>), LinkFailure> {
    let upgraded = hyper::upgrade::on(request).await.map_err(|error| http_failure(&error))?;
    let parts =
        upgraded.downcast::<HyperStream<R::Stream>>().expect("the connection was served over this type");
    Ok((parts.io.0, parts.read_buf.into()))
}

fn http_failure(error: &hyper::Error) -> LinkFailure {
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(error) => LinkFailure::Io(socket_error(error)),
        None => LinkFailure::Io(SocketError::UnexpectedEof),
    }
}

fn switching_protocols(key: &HeaderValue, extensions: Option<String>) -> HttpResponse {
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

fn bad_upgrade() -> HttpResponse {
    let mut response = text(StatusCode::BAD_REQUEST, "Bad Request\n");
    response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(WEBSOCKET_VERSION));
    response
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> HttpResponse {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    // One request each: nobody can hold a connection by sending ever more of them. (Disabling
    // keep-alive in hyper would add this to the answer to an upgrade as well.)
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
