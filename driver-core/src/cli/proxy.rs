//! The proxy for a client's WebSocket, from flags and environment.

use linksocks_sansio::{LinkProxy, ProxyBypass, ProxyRules, ServerUrl, UpstreamProxy};

use super::Failure;
use super::parse::Environment;

/// Reads `--upstream-proxy`; empty means none.
pub(super) fn upstream(flag: Option<&str>) -> Result<Option<UpstreamProxy>, Failure> {
    let Some(url) = flag.filter(|url| !url.is_empty()) else { return Ok(None) };
    url.parse().map(Some).map_err(|error| Failure::Usage(format!("--upstream-proxy: {error}")))
}

/// What the environment says, as Go's `net/http` reads it: for `ws` URLs `HTTP_PROXY`, for `wss` URLs
/// `HTTPS_PROXY`, each also in lower case, but for the servers in `NO_PROXY`; a value without a scheme
/// is an `http` proxy.
///
/// # Errors
/// The proxy for this server can't be used. What is wrong with others does not matter.
///
/// In a CGI program (`REQUEST_METHOD` is set) `HTTP_PROXY` may come from whoever sent the request, in
/// a header `Proxy`. As in Go, it is refused there.
pub(super) fn from_environment(environment: &Environment, server: &ServerUrl) -> Result<LinkProxy, Failure> {
    let variable = |names: [&'static str; 2]| {
        names.into_iter().find_map(|name| Some((name, environment.get(name)?.to_string_lossy())))
    };
    let read = |names, needed: bool| match variable(names) {
        None => Ok(None),
        Some((name @ ("HTTP_PROXY" | "http_proxy"), _)) if environment.get("REQUEST_METHOD").is_some() => {
            let error =
                format!("{name} is not safe to use in a CGI program, whose REQUEST_METHOD is set; use -E");
            if needed { Err(Failure::Usage(error)) } else { Ok(None) }
        }
        Some((name, value)) => match proxy(&value) {
            Ok(proxy) => Ok(Some(proxy)),
            Err(error) if needed => Err(Failure::Usage(format!("{name}: {error}"))),
            Err(_) => Ok(None),
        },
    };
    let bypass = variable(["NO_PROXY", "no_proxy"]).map(|(_, value)| ProxyBypass::parse(&value));
    let bypass = bypass.unwrap_or_default();
    let needed = !bypass.contains(server);
    let http = read(["HTTP_PROXY", "http_proxy"], needed && !server.is_secure())?;
    let https = read(["HTTPS_PROXY", "https_proxy"], needed && server.is_secure())?;
    Ok(LinkProxy::Rules(ProxyRules { http, https, bypass }))
}

fn proxy(value: &str) -> Result<UpstreamProxy, linksocks_sansio::ConfigError> {
    if value.contains("://") { value.parse() } else { format!("http://{value}").parse() }
}

#[cfg(test)]
mod tests {
    use linksocks_sansio::ServerUrl;

    use super::{from_environment, upstream};
    use crate::cli::parse::Environment;

    fn choose(variables: &[(&str, &str)], url: &str) -> Result<Option<String>, String> {
        let environment: Environment =
            variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let server = ServerUrl::parse(url).unwrap();
        let proxy = from_environment(&environment, &server).map_err(|error| error.to_string())?;
        Ok(proxy.choose(&server).map(ToString::to_string))
    }

    #[test]
    fn variables_choose_the_proxy_as_in_go() {
        let both = [("HTTP_PROXY", "plain:1"), ("HTTPS_PROXY", "http://secure")];
        for (variables, url, expected) in [
            (&both[..], "ws://h", Some("http://plain:1")),
            (&both, "http://h", Some("http://plain:1")),
            (&both, "wss://h", Some("http://secure:8080")),
            (&both, "h:8765", Some("http://secure:8080")),
            (&both, "ws://localhost:8765", None),
            (&both, "ws://127.0.0.1", None),
            (&both[1..], "ws://h", None),
            (&both[..1], "wss://h", None),
            (&[], "ws://h", None),
            (&[("http_proxy", "lower")], "ws://h", Some("http://lower:8080")),
            (&[("http_proxy", "lower"), ("HTTP_PROXY", "upper")], "ws://h", Some("http://upper:8080")),
            (&[("http_proxy", "lower"), ("HTTP_PROXY", "")], "ws://h", Some("http://lower:8080")),
            (&[("HTTP_PROXY", "socks5://u:p@s")], "ws://h", Some("socks5://s:1080")),
            (&[("ALL_PROXY", "p")], "ws://h", None),
            (&[("HTTP_PROXY", "p"), ("NO_PROXY", "a,h")], "ws://h", None),
            (&[("HTTP_PROXY", "p"), ("no_proxy", "*")], "ws://h", None),
            (&[("HTTP_PROXY", "p"), ("NO_PROXY", "h:81")], "ws://h", Some("http://p:8080")),
            // What is not used may be wrong.
            (&[("HTTP_PROXY", "ftp://p")], "wss://h", None),
            (&[("HTTP_PROXY", "ftp://p")], "ws://localhost", None),
            (&[("HTTP_PROXY", "p"), ("REQUEST_METHOD", "GET")], "wss://h", None),
            (&[("HTTPS_PROXY", "p"), ("REQUEST_METHOD", "GET")], "wss://h", Some("http://p:8080")),
        ] {
            assert_eq!(choose(variables, url).unwrap().as_deref(), expected, "{variables:?} {url}");
        }
    }

    #[test]
    fn what_is_used_and_wrong_is_an_error() {
        for (variables, part) in [
            (&[("HTTP_PROXY", "ftp://p")][..], "HTTP_PROXY: malformed proxy URL"),
            (&[("http_proxy", "http://secret@p")], "http_proxy: malformed proxy URL: a login needs both"),
            (&[("HTTP_PROXY", "p"), ("REQUEST_METHOD", "GET")], "HTTP_PROXY is not safe"),
        ] {
            let error = choose(variables, "ws://h").unwrap_err();
            assert!(error.contains(part) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_flag_may_be_empty() {
        assert_eq!(upstream(None).unwrap(), None);
        assert_eq!(upstream(Some("")).unwrap(), None);
        assert_eq!(upstream(Some("socks5://h")).unwrap().unwrap().to_string(), "socks5://h:1080");
        assert!(upstream(Some("h:1080")).unwrap_err().to_string().starts_with("--upstream-proxy: malformed"));
    }
}
