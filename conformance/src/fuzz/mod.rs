//! What must hold for any bytes: one function for each fuzz target.
//!
//! The targets are in the folder `fuzz`, where a README says how to run them; each calls the function of
//! its name. The test `fuzz_corpus` calls them with the inputs that are kept there. A function returns,
//! or panics because something does not hold that should; it does the same each time for the same bytes.
//!
//! | target | the bytes are | what must hold |
//! |---|---|---|
//! | [`decode`] | a LinkSocks message | what is read can be written, and read again as the same |
//! | [`gzip`] | a payload, or what to compress | steps make no difference, the cap holds |
//! | [`socks5_server`], [`socks5_client`], [`http_connect`] | what the other side of a handshake says | cuts make no difference, nothing behind the handshake is taken |
//! | [`udp_header`] | a datagram of an application | what is read can be written, and read again as the same |
//! | [`http_proxy`] | an application at the SOCKS port, and its targets | cuts make no difference, each request has one meaning |
//! | [`admin`] | requests to the HTTP API | without a key nothing is done or told |
//! | [`parse`] | a text of the user's, or a header | texts come back, rules agree with themselves |
//! | [`engine`] | a run of the simulator | every rule of it |

mod admin;
mod decode;
mod desk;
mod engine;
mod gzip;
mod handshakes;
mod http_proxy;
mod parse;
mod udp_header;

pub use admin::admin;
pub use decode::decode;
pub use engine::engine;
pub use gzip::gzip;
pub use handshakes::{http_connect, socks5_client, socks5_server};
pub use http_proxy::http_proxy;
pub use parse::parse;
pub use udp_header::udp_header;

/// A fuzz target: its name and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 10] = [
    ("admin", admin),
    ("decode", decode),
    ("engine", engine),
    ("gzip", gzip),
    ("http_connect", http_connect),
    ("http_proxy", http_proxy),
    ("parse", parse),
    ("socks5_client", socks5_client),
    ("socks5_server", socks5_server),
    ("udp_header", udp_header),
];

/// Lengths of the pieces in which an incremental parser is given its input; it must not notice.
const PIECES: [usize; 4] = [usize::MAX, 1, 3, 50];

/// The first byte, which says what to do with the rest.
fn split_first(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}
