//! A client inside of a tokio program: a connection out of the server's network without a SOCKS port in
//! between, events, numbers, and a graceful end.
//!
//! ```sh
//! cargo run -p examples --bin embed
//! ```
//!
//! The server and the web server are only here so that there is something to connect to.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use driver_tokio::linksocks_sansio::{ClientConfig, ServerConfig, ServerUrl, Token};
use driver_tokio::{Client, Server, TokioRuntime};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_util::compat::FuturesAsyncReadCompatExt;

/// A port of the loopback interface that the system chooses.
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let web = TcpListener::bind(ANY_PORT).await?;
    let web_address = web.local_addr()?;
    tokio::spawn(serve_one_page(web));

    let token = Token::new("a secret")?;
    let config = ServerConfig::forward(token.clone())?;
    let server = Server::builder(config).bind(ANY_PORT).start(TokioRuntime::current()).await?;

    // From here on it is what a program of yours does.
    let url = ServerUrl::parse(&format!("ws://{}", server.local_addr()))?;
    let builder = Client::builder(ClientConfig::new(url, token));
    let mut events = builder.events();
    let watching = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            println!("event: {event:?}");
        }
    });
    let client = builder.start(TokioRuntime::current()).await?;
    client.ready().await?; // connected and logged in, or why that can't be

    // A stream for `futures` crates; `compat` makes one for tokio of it.
    let mut stream = client.open(web_address.to_string().parse()?).await?.compat();
    let request = format!("GET / HTTP/1.1\r\nHost: {web_address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    println!("answer: {}", answer.lines().next_back().unwrap_or_default());
    // Both directions have to end; to drop a stream before that resets it.
    stream.shutdown().await?;

    let stats = client.stats().await;
    println!("{} bytes sent, {} received", stats.bytes_sent, stats.bytes_received);

    // Channels may finish, then the link is closed. To drop the handle ends all of it at once.
    println!("client: {}", client.shutdown(Duration::from_secs(5)).await);
    watching.await?;
    println!("server: {}", server.shutdown(Duration::from_secs(5)).await);
    Ok(())
}

async fn serve_one_page(listener: TcpListener) -> io::Result<()> {
    let (stream, _) = listener.accept().await?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let answer =
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 26\r\n\r\n<h1>The other network</h1>";
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
