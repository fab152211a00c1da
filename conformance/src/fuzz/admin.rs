//! The HTTP API of a server.

use bytes::Bytes;
use linksocks_sansio::http::admin::{self, MAX_BODY};
use linksocks_sansio::io::{HttpRequest, HttpResponse};
use linksocks_sansio::{Action, Input, Output, ServerConfig, ServerEngine, Ticket, Token};
use serde_json::Value;

use super::desk::{Desk, peer};
use super::split_first;

/// What stands between two requests.
const SEPARATOR: u8 = 0xFF;

const KEY: &str = "the key";

/// The most requests of one input: beyond, whoever gives wrong keys has to wait.
const MOST: usize = 16;

/// Requests, one behind the other. The first byte of each says which key it comes with; the first line is
/// method and path, the rest is the body. Some servers have no API.
///
/// # Panics
/// If a request without the key does anything or is told anything; if an answer is none of those that there
/// are; if rules are not the same when they are set to what they are.
pub fn admin(data: &[u8]) {
    let (mode, data) = split_first(data);
    let has_api = mode % 8 != 0;
    let mut api = Api::new(has_api);
    for bytes in data.split(|byte| *byte == SEPARATOR).take(MOST) {
        let request = api.request(bytes);
        let is_front_page = is_front_page(&request.path);
        let may_enter = has_api && admin::is_authorized(&request, &[key()]);
        assert_eq!(may_enter, has_api && request.api_key == Some(key()));
        let before = api.snapshot();
        let response = api.ask(request);
        check(&response);
        let is_success = response.status < 300;
        assert!(may_enter || !is_success || is_front_page, "status {} without the key", response.status);
        let after = api.snapshot();
        assert!(may_enter || before == after, "something has changed without the key");
    }
    if has_api {
        api.set_rules_to_themselves();
    }
}

fn key() -> Token {
    Token::new(KEY).expect("it has a usual length")
}

/// Whether a path is that of the page that is for everybody.
fn is_front_page(path: &str) -> bool {
    matches!(path, "/" | "%2F" | "%2f")
}

/// A server, and those who ask it.
struct Api {
    server: Desk<ServerEngine>,
    has_api: bool,
    asked: u16,
}

impl Api {
    fn new(has_api: bool) -> Self {
        let mut config = ServerConfig::forward(Token::new("forward").expect("it has a usual length"))
            .expect("it is no reserved token");
        if has_api {
            config.api_keys = vec![Token::new("another key").expect("it has a usual length"), key()];
        }
        let limits = config.relay.limits.clone();
        let engine = ServerEngine::new(config, [7; 32], Desk::<ServerEngine>::NOW.instant());
        let mut server = Desk::new(engine, &limits);
        server.drain();
        Self { server, has_api, asked: 0 }
    }

    /// What some bytes stand for.
    fn request(&self, bytes: &[u8]) -> HttpRequest {
        let (key, rest) = split_first(bytes);
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let (line, body) = rest.split_at(end);
        let line = String::from_utf8_lossy(line);
        let (method, path) = line.split_once(' ').unwrap_or((&line, ""));
        let api_key = match key % 8 {
            0 => None,
            1 => Token::new("").ok(),
            2 => Token::new("wrong").ok(),
            3 => Token::new(format!("{KEY} ")).ok(),
            _ => Some(self::key()),
        };
        HttpRequest {
            peer: peer(self.asked),
            method: method.to_owned(),
            path: path.to_owned(),
            api_key,
            body: Bytes::copy_from_slice(body.get(1..).unwrap_or_default()),
        }
    }

    fn ask(&mut self, request: HttpRequest) -> HttpResponse {
        let ticket = Ticket(self.asked.into());
        self.asked += 1;
        let outputs = self.server.tell(Input::HttpRequest { ticket, request: request.into() });
        let mut answers = outputs.into_iter().filter_map(|output| {
            let Output::Action(Action::HttpResponse { ticket: answered, response }) = output else {
                return None;
            };
            assert_eq!(answered, ticket);
            Some(response)
        });
        let answer = answers.next().expect("every request is answered at once");
        assert!(answers.next().is_none(), "every request is answered once");
        answer
    }

    /// Asks for something that is always there.
    fn get(&mut self, path: &str) -> HttpResponse {
        let (method, path) = ("GET".to_owned(), path.to_owned());
        let request =
            HttpRequest { peer: peer(self.asked), method, path, api_key: Some(key()), body: Bytes::new() };
        let response = self.ask(request);
        assert_eq!(response.status, if self.has_api { 200 } else { 404 });
        response
    }

    /// All that can be changed.
    fn snapshot(&mut self) -> [Bytes; 2] {
        ["/api/status", "/api/config/access"].map(|path| self.get(path).body)
    }

    fn set_rules_to_themselves(&mut self) {
        let before = self.get("/api/config/access").body;
        let request = HttpRequest {
            peer: peer(self.asked),
            method: "PUT".to_owned(),
            path: "/api/config/access".to_owned(),
            api_key: Some(key()),
            body: before.clone(),
        };
        assert!(before.len() > MAX_BODY || self.ask(request).status == 200, "what was told is understood");
        assert_eq!(self.get("/api/config/access").body, before);
    }
}

fn check(response: &HttpResponse) {
    assert!([200, 400, 401, 404, 405, 413].contains(&response.status), "status {}", response.status);
    match (response.status, response.content_type) {
        (405, _) => assert!(response.body.is_empty()),
        (_, "application/json") => {
            assert!(response.body.ends_with(b"\n"));
            let value: Value = serde_json::from_slice(&response.body).expect("it says that it is JSON");
            assert!(value.is_object());
        }
        (_, "text/plain; charset=utf-8") => {
            str::from_utf8(&response.body).expect("it says that it is UTF-8");
        }
        (_, other) => panic!("the content type {other}"),
    }
}
