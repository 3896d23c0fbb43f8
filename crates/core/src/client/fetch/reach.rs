//! Where a redirection may lead: not from the internet to this machine and its networks. A server
//! could otherwise choose what only this client can reach, and have it broadcast to everybody.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use url::{Host, Url};

/// The redirections that are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Redirections {
    /// None from a public to another address, and none from HTTPS to HTTP.
    Safe,
    /// All of them.
    Any,
}

/// The addresses that the host of a request has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    has_public: bool,
    /// One that is not public.
    other: Option<IpAddr>,
}

impl Seen {
    /// Whether the server may be on the internet. A host that was not seen may be.
    pub(super) fn may_be_public(self) -> bool {
        self.has_public || self.other.is_none()
    }

    /// Returns an address of a host that has no public one.
    pub(super) fn address_inside(self) -> Option<IpAddr> {
        if self.has_public { None } else { self.other }
    }
}

thread_local! {
    /// Whether the request of this thread may go to public addresses only.
    static ONLY_PUBLIC: Cell<bool> = const { Cell::new(false) };
    /// The addresses of the host of this thread's request.
    static SEEN: Cell<Seen> = const { Cell::new(Seen { has_public: false, other: None }) };
}

/// Makes a request by `call`, whose agent has a [`JudgingResolver`], with `only_public` to public
/// addresses only. Returns also which addresses the host has.
pub(super) fn watched<T>(only_public: bool, call: impl FnOnce() -> T) -> (T, Seen) {
    SEEN.set(Seen::default());
    ONLY_PUBLIC.set(only_public);
    let result = call();
    (result, SEEN.get())
}

/// A resolver that tells a request's thread what it finds. The agent connects to the addresses that
/// are returned here: a name cannot mean another address after it was judged.
#[derive(Debug, Default)]
pub(super) struct JudgingResolver(DefaultResolver);

impl Resolver for JudgingResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.0.resolve(uri, config, timeout)?;
        self.judge(found, ONLY_PUBLIC.get())
    }
}

impl JudgingResolver {
    fn judge(
        &self,
        found: ResolvedSocketAddrs,
        only_public: bool,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let other = found.iter().map(|address| address.ip()).find(|address| !is_public(*address));
        let mut public = self.empty();
        for address in found.iter().filter(|address| is_public(address.ip())) {
            public.push(*address);
        }
        SEEN.set(Seen { has_public: !public.is_empty(), other });
        if !only_public {
            Ok(found)
        } else if public.is_empty() {
            Err(Error::HostNotFound)
        } else {
            Ok(public)
        }
    }
}

/// Whether the host of a URL is public as far as its text tells: a proxy looks names up itself.
pub(super) fn seems_public(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => is_public_v4(address),
        Some(Host::Ipv6(address)) => is_public_v6(address),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name != "localhost" && !name.ends_with(".localhost")
        }
        None => false,
    }
}

/// Whether a redirection leads from HTTPS to HTTP, where anybody on the way can change the file.
pub(super) fn loses_https(from: &Url, to: &Url) -> bool {
    from.scheme() == "https" && to.scheme() != "https"
}

/// Whether an address is one of the internet, and none of this machine, of a network of its own, or
/// of a special purpose (RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    !matches!(
        (first, second, third),
        (0 | 10 | 127 | 224..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // These lead to the IPv4 address in them: mapped, compatible, NAT64 and 6to4.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => {
            is_public_v4(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)))
        }
        // Protocols (Teredo among them) and documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    const PUBLIC: [&str; 7] = [
        "8.8.8.8",
        "100.63.0.1",
        "172.32.0.1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
    ];
    const OTHER: [&str; 27] = [
        "127.0.0.1",
        "0.0.0.0",
        "0.1.2.3",
        "10.1.2.3",
        "100.64.0.1",
        "100.127.255.255",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "192.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "203.0.113.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::10.0.0.1",
        "64:ff9b::10.0.0.1",
        "2002:a00:1::1",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "2001:db8::1",
    ];

    fn found(addresses: &[&str]) -> ResolvedSocketAddrs {
        let mut found = JudgingResolver::default().empty();
        for address in addresses {
            found.push(SocketAddr::new(address.parse().unwrap(), 80));
        }
        found
    }

    #[test]
    fn addresses_are_of_the_internet_or_not() {
        for address in PUBLIC {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in OTHER {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_name_leads_to_public_addresses_alone_where_it_must() {
        let resolver = JudgingResolver::default();
        let judge = |addresses: &[&str], only_public| {
            watched(only_public, || resolver.judge(found(addresses), ONLY_PUBLIC.get()))
        };
        let (kept, seen) = judge(&["10.0.0.1", "8.8.8.8"], true);
        assert_eq!(kept.unwrap(), found(&["8.8.8.8"]));
        assert!(seen.may_be_public() && seen.address_inside().is_none());
        for address in OTHER {
            let (kept, seen) = judge(&[address], true);
            assert!(matches!(kept, Err(Error::HostNotFound)), "{address}");
            assert_eq!(seen.address_inside(), Some(address.parse().unwrap()));
            let (kept, seen) = judge(&[address], false);
            assert_eq!(kept.unwrap(), found(&[address]));
            assert!(!seen.may_be_public(), "{address}");
        }
        // A request that failed before any look-up tells nothing of its server.
        assert!(watched(true, || ()).1.may_be_public());
    }

    #[test]
    fn https_is_lost_on_the_way_to_http_alone() {
        let [http, https] = ["http://a/b", "https://a/b"].map(|url| Url::parse(url).unwrap());
        assert!(loses_https(&https, &http));
        assert!(!loses_https(&http, &http) && !loses_https(&http, &https));
        assert!(!loses_https(&https, &https));
    }

    #[test]
    fn what_a_proxy_asks_for_is_judged_by_its_text() {
        for (url, is_public) in [
            ("http://example.org/", true),
            ("http://8.8.8.8/", true),
            ("http://localhost/", false),
            ("http://LOCALHOST./", false),
            ("http://a.localhost/", false),
            ("http://127.1/", false),
            ("http://0x7f000001/", false),
            ("http://2130706433/", false),
            ("http://[::ffff:127.0.0.1]/", false),
            ("http://[fd00::1]/", false),
        ] {
            assert_eq!(seems_public(&Url::parse(url).unwrap()), is_public, "{url}");
        }
    }
}
