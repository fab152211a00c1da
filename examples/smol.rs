//! LinkSocks on smol: a server, a client with a SOCKS5 port, and an application that fetches something
//! through both. All that a runtime has to bring along is in `smol_driver.rs`.
//!
//! ```sh
//! cargo run -p examples --bin smol
//! ```

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use driver_core::embed::{Client, Server};
use linksocks_sansio::{ClientConfig, ServerConfig, ServerUrl, Token};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};
use smol_driver::SmolRuntime;

/// A port of the loopback interface that the system chooses.
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn main() -> Result<(), Box<dyn Error>> {
    smol::block_on(async {
        // What is to be fetched: a service in the network of the server.
        let target = TcpListener::bind(ANY_PORT).await?;
        let target_address = target.local_addr()?;
        smol::spawn(greet_one(target)).detach();

        let token = Token::new("a secret")?;
        let config = ServerConfig::forward(token.clone())?;
        let server = Server::builder(config).bind(ANY_PORT).start(SmolRuntime).await?;
        println!("server on {}", server.local_addr());

        let url = ServerUrl::parse(&format!("ws://{}", server.local_addr()))?;
        let mut config = ClientConfig::new(url, token);
        config.listen = Some(ANY_PORT);
        let client = Client::builder(config).start(SmolRuntime).await?;
        client.ready().await?;
        let socks = client.local_addr().ok_or("a client that is ready listens")?;
        println!("client connected, SOCKS5 on {socks}");

        println!("fetched: {}", fetch(socks, target_address.port()).await?);

        println!("client: {}", client.shutdown(Duration::from_secs(1)).await);
        println!("server: {}", server.shutdown(Duration::from_secs(1)).await);
        Ok(())
    })
}

async fn greet_one(listener: TcpListener) -> std::io::Result<()> {
    let (mut stream, _) = listener.accept().await?;
    stream.write_all(b"hello from the other side").await?;
    stream.close().await
}

/// An application that knows SOCKS5 (RFC 1928): asks for a port of the server's machine and reads all
/// that it says.
async fn fetch(socks: SocketAddr, port: u16) -> Result<String, Box<dyn Error>> {
    let mut stream = TcpStream::connect(socks).await?;
    stream.write_all(&[5, 1, 0]).await?;
    let mut method = [0; 2];
    stream.read_exact(&mut method).await?;

    let connect = [&[5, 1, 0, 1, 127, 0, 0, 1][..], &port.to_be_bytes()].concat();
    stream.write_all(&connect).await?;
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).await?;
    if method != [5, 0] || reply[1] != 0 {
        return Err(format!("SOCKS5 answered {method:?}, {reply:?}").into());
    }
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}
