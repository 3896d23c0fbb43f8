//! The choice of a proxy for a URL from the environment, as curl makes it: `http_proxy` (lower case
//! only: a CGI program's request could set the other), `https_proxy`, `all_proxy` and `no_proxy`.

use std::net::IpAddr;

use ureq::{Proxy, ProxyProtocol};
use url::{Host, Url};

use crate::client::shown_url::shown_url;

/// Returns the proxy for `url`, or `None` if the request goes to the server itself.
///
/// # Errors
/// The variable that decides holds no URL of a proxy: the message names it.
pub(super) fn proxy_for(url: &Url) -> Result<Option<Proxy>, String> {
    proxy_by(url, |name| std::env::var(name).ok())
}

fn proxy_by(url: &Url, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Proxy>, String> {
    // To curl, a variable that is empty is not set.
    let value = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let set = |names: &[&'static str]| {
        names.iter().find_map(|name| value(name).map(|value| (*name, value)))
    };
    let own: &[&str] =
        if url.scheme() == "https" { &["https_proxy", "HTTPS_PROXY"] } else { &["http_proxy"] };
    let chosen = set(own).or_else(|| set(&["all_proxy", "ALL_PROXY"]));
    let Some((name, value)) = chosen else { return Ok(None) };
    let exceptions = set(&["no_proxy", "NO_PROXY"]).map(|(_, value)| value).unwrap_or_default();
    if url.host().is_some_and(|host| is_exception(&host, &exceptions)) {
        return Ok(None);
    }
    let at_fault = |reason: String| format!("{name} \"{}\": {reason}", shown_url(&value));
    proxy_at(value.trim()).map(Some).map_err(at_fault)
}

/// The port of a proxy that is given without one, as in curl.
const USUAL_PORT: u16 = 1080;

fn proxy_at(text: &str) -> Result<Proxy, String> {
    let proxy = Proxy::new(text).map_err(|error| error.to_string())?;
    if !matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https) {
        return Err("only http:// and https:// proxies are known here, no SOCKS".to_owned());
    }
    let authority = proxy.uri().authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit('@').next().unwrap_or_default();
    let port = host.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
    match port {
        Some(port) if port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(proxy),
        Some(port) => Err(format!("{port} is no port")),
        None if proxy.protocol() == ProxyProtocol::Https => Ok(proxy),
        None => {
            let with_port = format!("http://{authority}:{USUAL_PORT}");
            Proxy::new(&with_port).map_err(|error| error.to_string())
        }
    }
}

/// Whether a list such as `localhost, .its.ac.id, 192.168.0.0/16` holds the host: by its name or a
/// parent domain, its address, or a network. `*` alone holds all hosts.
fn is_exception(host: &Host<&str>, list: &str) -> bool {
    if list.trim() == "*" {
        return true;
    }
    list.split(|separator: char| separator == ',' || separator.is_whitespace())
        .map(|entry| entry.trim_matches(['[', ']']))
        .filter(|entry| !entry.is_empty())
        .any(|entry| is_match(host, entry))
}

fn is_match(host: &Host<&str>, entry: &str) -> bool {
    match host {
        Host::Ipv4(address) => holds_address(entry, IpAddr::V4(*address)),
        Host::Ipv6(address) => holds_address(entry, IpAddr::V6(*address)),
        Host::Domain(name) => {
            let (name, domain) = (name.trim_end_matches('.'), entry.trim_matches('.'));
            let parent = name.len().checked_sub(domain.len()).map(|at| name.split_at(at));
            parent.is_some_and(|(before, end)| {
                end.eq_ignore_ascii_case(domain) && (before.is_empty() || before.ends_with('.'))
            })
        }
    }
}

/// Whether `entry` is the address, or a network in CIDR notation that holds it.
fn holds_address(entry: &str, address: IpAddr) -> bool {
    let (network, length) = entry.split_once('/').unwrap_or((entry, ""));
    let length = if length.is_empty() { Ok(0) } else { length.parse::<u32>() };
    let (Ok(network), Ok(length)) = (network.parse(), length) else { return false };
    let (network, address, bits) = match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (u128::from(network.to_bits()), u128::from(address.to_bits()), 32)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => (network.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    match length {
        // To curl, a network of no bits is an address.
        0 => network == address,
        1.. if length <= bits => (network ^ address) >> (bits - length) == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the proxy's host for `url` in an environment of `variables`.
    fn chosen(url: &str, variables: &[(&str, &str)]) -> Option<String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(given, _)| *given == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let proxy = proxy_by(&Url::parse(url).unwrap(), variable).unwrap();
        proxy.map(|proxy| proxy.host().to_owned())
    }

    #[test]
    fn each_scheme_has_a_variable_of_its_own() {
        let https = [("https_proxy", "http://p:1")];
        assert_eq!(chosen("http://a/b", &https), None);
        assert_eq!(chosen("https://a/b", &https).as_deref(), Some("p"));
        let http = [("http_proxy", "p:1")];
        assert_eq!(chosen("http://a/b", &http).as_deref(), Some("p"));
        assert_eq!(chosen("https://a/b", &http), None);
        assert_eq!(chosen("http://a/b", &[("HTTP_PROXY", "p:1")]), None);
        let all = [("ALL_PROXY", "all:1"), ("https_proxy", "")];
        assert_eq!(chosen("http://a/b", &all).as_deref(), Some("all"));
        assert_eq!(chosen("https://a/b", &all).as_deref(), Some("all"));
        assert_eq!(chosen("http://a/b", &[("http_proxy", ""), ("all_proxy", " ")]), None);
    }

    #[test]
    fn exceptions_are_names_domains_addresses_and_networks() {
        for (host, list, is_excepted) in [
            ("its.ac.id", "its.ac.id", true),
            ("www.its.ac.id", "localhost, its.ac.id", true),
            ("www.its.ac.id", ".ITS.ac.id", true),
            ("bits.ac.id", "its.ac.id", false),
            ("a", "*", true),
            ("a", "*, b", false),
            ("10.0.0.1", "10.0.0.1/33", false),
            ("a", "b  a", true),
            ("192.168.122.1", "10.0.0.0/8, 192.168.0.0/16", true),
            ("192.169.0.1", "192.168.0.0/16", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "0.0.0.0/0", false),
            ("10.0.0.1", "10.0.0.1/32", true),
            ("10.0.0.1", "10.0.0.1/x", false),
            ("[2001:db8::1]", "2001:db8::/32", true),
            ("[2001:db8::1]", "[2001:db8::1]", true),
            ("[2001:db8::1]", "10.0.0.0/8", false),
            ("a", "", false),
        ] {
            let variables = [("http_proxy", "http://p:1"), ("no_proxy", list)];
            let proxy = chosen(&format!("http://{host}/x"), &variables);
            assert_eq!(proxy.is_none(), is_excepted, "{host} in {list:?}");
        }
    }

    #[test]
    fn a_variable_that_names_no_proxy_is_an_error() {
        let url = Url::parse("http://a/b").unwrap();
        let by =
            |value: &str| proxy_by(&url, |name| (name == "http_proxy").then(|| value.to_owned()));
        let error = by("ftp://user:secret@p\u{1b}").unwrap_err();
        assert!(error.contains("ftp://user:***@p") && !error.contains('\u{1b}'), "{error}");
        for value in ["ftp://p", "socks5h://p:1", "http://p:99999", "p:0", "http://p:x"] {
            assert!(by(value).unwrap_err().contains("http_proxy"), "{value}");
        }
        for (value, port) in [("p", 1080), ("http://u:w@p", 1080), ("p:80", 80), ("[::1]", 1080)] {
            assert_eq!(by(value).unwrap().unwrap().port(), port, "{value}");
        }
    }
}
