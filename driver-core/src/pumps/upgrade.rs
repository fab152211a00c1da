//! The client's side of the upgrade from HTTP to WebSocket (RFC 6455 section 4.1), by hyper.

use std::pin::pin;

use async_tungstenite::tungstenite::handshake::client::generate_key;
use async_tungstenite::tungstenite::handshake::derive_accept_key;
use bytes::Bytes;
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::future::{Either, select};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use linksocks_sansio::error::LinkFailure;
use linksocks_sansio::io::{LinkRequest, UpgradeResponse};
use linksocks_sansio::link::EXTENSIONS_HEADER;

use crate::adapters::HyperStream;
use crate::error::upgrade_error;

/// The longest head of an answer.
const MAX_HEAD: usize = 64 * 1024;

/// Sends the upgrade request and reads the answer. Returns the stream, what came in behind the
/// answer, and what the answer says.
pub(super) async fn upgrade<S>(
    stream: S,
    request: &LinkRequest,
) -> Result<(S, Vec<u8>, UpgradeResponse), LinkFailure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let key = generate_key();
    let request =
        upgrade_request(request, &key).map_err(|error| LinkFailure::Handshake(error.to_string()))?;
    let mut http = http1::Builder::new();
    http.max_buf_size(MAX_HEAD).title_case_headers(true);
    let (mut sender, connection) =
        http.handshake(HyperStream(stream)).await.map_err(|error| upgrade_error(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| upgrade_error(&error))?;
        let answer = judge(&response, &key)?;
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| upgrade_error(&error))?;
        Ok::<_, LinkFailure>((upgraded, answer))
    };
    // The connection moves the bytes; what goes wrong there is told by the exchange.
    let (upgraded, answer) = match select(pin!(exchange), pin!(connection.with_upgrades())).await {
        Either::Left((result, _)) => result?,
        Either::Right((_, exchange)) => exchange.await?,
    };
    let parts = upgraded.downcast::<HyperStream<S>>().expect("the connection was made over this type");
    Ok((parts.io.0, parts.read_buf.into(), answer))
}

fn upgrade_request(request: &LinkRequest, key: &str) -> Result<Request<Empty<Bytes>>, http::Error> {
    let mut builder = Request::get(&request.path_and_query)
        .header(header::HOST, &request.authority)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, key);
    if let Some(extensions) = &request.extensions {
        builder = builder.header(EXTENSIONS_HEADER, extensions);
    }
    for header in &request.headers {
        builder = builder.header(header.name(), header.value());
    }
    builder.body(Empty::new())
}

/// Whether the answer is the one to this request (RFC 6455 section 4.1, second list).
fn judge(response: &Response<Incoming>, key: &str) -> Result<UpgradeResponse, LinkFailure> {
    let (status, headers) = (response.status(), response.headers());
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return Err(match headers.get(header::LOCATION) {
            Some(location) if is_redirect(status) => {
                LinkFailure::Redirect { location: String::from_utf8_lossy(location.as_bytes()).into_owned() }
            }
            _ => LinkFailure::Status(status.as_u16()),
        });
    }
    let invalid = |what: &str| Err(LinkFailure::Handshake(what.to_owned()));
    if !has_token(headers, header::UPGRADE, "websocket") || !has_token(headers, header::CONNECTION, "upgrade")
    {
        return invalid("the server switched to something else than WebSocket");
    }
    if headers
        .get(header::SEC_WEBSOCKET_ACCEPT)
        .is_none_or(|accept| *accept != derive_accept_key(key.as_bytes()))
    {
        return invalid("the answer is one to another request (Sec-WebSocket-Accept)");
    }
    if headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS)
        || headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL)
    {
        return invalid("the server chose a WebSocket extension or protocol that was not offered");
    }
    let extensions = headers.get(EXTENSIONS_HEADER).and_then(|value| value.to_str().ok());
    Ok(UpgradeResponse { extensions: extensions.map(str::to_owned) })
}

/// Those that leave the method as it is, or would make it the GET that it is.
fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Whether a comma-separated header contains a word.
pub(crate) fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}
