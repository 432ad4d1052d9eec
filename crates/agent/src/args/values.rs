//! Parsers of option values.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use afd_derive::{
    compat::{CompatSet, CompatSwitch},
    vendors::{VENDORS, VendorRecord},
};
use afd_model::PciAddress;
use clap::builder::{PossibleValuesParser, TypedValueParser};

/// A day, in seconds.
const DAY: f64 = 86400.0;

/// The values of an option in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct SecondsRange {
    min: f64,
    max: f64,
    /// Whether 0 is a value as well, although it is below the least one.
    or_zero: bool,
}

impl SecondsRange {
    /// Of an interval.
    pub(super) const INTERVAL: SecondsRange = SecondsRange { min: 0.1, max: DAY, or_zero: false };
    /// Of an interval that 0 turns off.
    pub(super) const HEARTBEAT: SecondsRange = SecondsRange { min: 1.0, max: DAY, or_zero: true };
    /// Of a grace.
    pub(super) const GRACE: SecondsRange = SecondsRange { min: 0.0, max: DAY, or_zero: false };
    /// Of a Lease. Its API has whole seconds.
    pub(super) const LEASE: SecondsRange = SecondsRange { min: 2.0, max: 300.0, or_zero: false };
    /// Of the time over which the starts of many agents are spread.
    pub(super) const START_SPREAD: SecondsRange = SecondsRange { min: 0.0, max: 3600.0, or_zero: false };

    /// The parser of such values.
    pub(super) fn parser(self) -> impl Fn(&str) -> Result<Duration, String> + Clone {
        move |text| self.parse(text)
    }

    fn parse(self, text: &str) -> Result<Duration, String> {
        let SecondsRange { min, max, or_zero } = self;
        let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
        if (min..=max).contains(&seconds) || (or_zero && seconds == 0.0) {
            // 0 may have a sign.
            return Ok(Duration::from_secs_f64(seconds.abs()));
        }
        let range = format!("between {min} and {max} seconds");
        Err(if or_zero { format!("neither 0 nor {range}") } else { format!("not {range}") })
    }
}

/// A vendor with a library, by the name of its probe.
pub(super) fn library() -> impl TypedValueParser<Value = &'static str> {
    let probes = || VENDORS.iter().filter(|record| record.library.is_some()).map(|record| record.probe);
    PossibleValuesParser::new(probes()).try_map(move |name| {
        probes().find(|probe| *probe == name).ok_or_else(|| format!("{name:?} has no library"))
    })
}

/// A vendor with a library or with servers that are queried, by the name of its probe.
pub(super) fn queried() -> impl TypedValueParser<Value = &'static str> {
    let probes = || {
        let is_queried = |record: &&&VendorRecord| record.library.is_some() || record.network.is_some();
        VENDORS.iter().filter(is_queried).map(|record| record.probe)
    };
    PossibleValuesParser::new(probes()).try_map(move |name| {
        probes().find(|probe| *probe == name).ok_or_else(|| format!("nothing of {name:?} is queried"))
    })
}

/// A server by its name, and its address.
pub(super) fn server(text: &str) -> Result<(String, SocketAddr), String> {
    let (name, address) = text.split_once('=').ok_or_else(|| "not a source and its address".to_owned())?;
    Ok((name.to_owned(), address.parse().map_err(|_| "not an address and a port".to_owned())?))
}

/// A device node, with the address of its device before it.
pub(super) fn node(text: &str) -> Result<(PciAddress, PathBuf), String> {
    counters(text).map(|(address, path)| (address, path.into()))
}

/// Something of a device, with the address of the device before it.
pub(super) fn counters(text: &str) -> Result<(PciAddress, String), String> {
    let (address, own) = text.split_once('=').ok_or_else(|| "nothing behind an address".to_owned())?;
    Ok((address.parse().map_err(|_| "not a PCI address".to_owned())?, own.to_owned()))
}

/// The address of a server, or none where it is not queried.
pub(super) fn server_address(text: &str) -> Result<ServerAddress, String> {
    if text == "off" {
        return Ok(ServerAddress(None));
    }
    let address = text.parse().map_err(|_| "neither an address and a port nor off".to_owned())?;
    Ok(ServerAddress(Some(address)))
}

/// The address of a server; none where it is not queried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ServerAddress(pub(super) Option<SocketAddr>);

/// A set whose metrics are served at `/compat/<page>` on request; the help lists them.
pub(super) fn metric_set() -> impl TypedValueParser<Value = CompatSet> {
    let on_request = CompatSet::all().filter(|set| set.pages().any(|page| !page.always_served));
    PossibleValuesParser::new(on_request.map(CompatSet::as_str)).try_map(|name| name.parse())
}

/// A label set and its switch: `<set>=on`.
pub(super) fn compat(text: &str) -> Result<(CompatSet, CompatSwitch), String> {
    let example = VENDORS[0].probe;
    let (set, switch) =
        text.split_once('=').ok_or_else(|| format!("not a set and its switch, such as {example}=on"))?;
    let set: CompatSet = set.parse()?;
    let has_labels = CompatSet::with_labels().any(|(own, _)| own == set);
    if !has_labels {
        return Err(format!("the set {} has no labels", set.as_str()));
    }
    Ok((set, switch.parse()?))
}

/// A release: its namespace and its name.
pub(super) fn release(text: &str) -> Result<String, String> {
    match text.split_once('/') {
        Some((namespace, name)) if domain(namespace).is_ok() && domain(name).is_ok() => Ok(text.to_owned()),
        _ => Err("not a namespace and a name, such as afd/afd".to_owned()),
    }
}

/// Where documentation is read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DocsUrl(String);

/// What stands for the name of a page.
const PAGE: &str = "PAGE";

impl DocsUrl {
    /// The address of a place in a page.
    pub fn place(&self, page: &str, anchor: &str) -> String {
        format!("{}#{anchor}", self.0.replace(PAGE, page))
    }
}

/// Where documentation is read. A script is no address.
pub(super) fn docs_url(text: &str) -> Result<DocsUrl, String> {
    let is_web = ["https://", "http://", "/"].iter().any(|start| text.starts_with(start));
    if !is_web || !text.contains(PAGE) || text.contains(|c: char| c == '#' || c.is_whitespace()) {
        return Err("not an address with PAGE, such as https://docs.example.com/afd/PAGE.html".to_owned());
    }
    Ok(DocsUrl(text.to_owned()))
}

/// A DNS subdomain, which Kubernetes accepts as the prefix of a key.
pub(super) fn domain(text: &str) -> Result<String, String> {
    let is_label = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(is_label) {
        Ok(text.to_owned())
    } else {
        Err("not a DNS name such as accelerator.llm-d.ai (lower case, digits, - and .)".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_is_at_an_address_of_the_web() {
        let url = docs_url("https://docs.example.com/afd/PAGE.html").expect("it is an address");
        assert_eq!(
            url.place("conditions", "gpulost"),
            "https://docs.example.com/afd/conditions.html#gpulost"
        );
        for wrong in ["", "docs/alerts.md", "javascript:alert(PAGE)", "https://x/PAGE#a", "https://x/ PAGE"] {
            assert!(docs_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn seconds_are_of_their_range() {
        let parse = |range: SecondsRange, text: &str| range.parse(text);
        for invalid in ["0", "0.09", "-1", "86401", "x", "", "inf", "NaN"] {
            assert!(parse(SecondsRange::INTERVAL, invalid).is_err(), "{invalid}");
        }
        assert_eq!(parse(SecondsRange::INTERVAL, "0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(parse(SecondsRange::INTERVAL, "0"), Err("not between 0.1 and 86400 seconds".to_owned()));
        for zero in ["0", "-0", "0.0"] {
            assert_eq!(parse(SecondsRange::HEARTBEAT, zero), Ok(Duration::ZERO), "{zero}");
            assert_eq!(parse(SecondsRange::GRACE, zero), Ok(Duration::ZERO), "{zero}");
        }
        assert_eq!(
            parse(SecondsRange::HEARTBEAT, "0.5"),
            Err("neither 0 nor between 1 and 86400 seconds".to_owned())
        );
        assert!(parse(SecondsRange::START_SPREAD, "3601").is_err());
    }

    #[test]
    fn invalid_values_are_rejected() {
        assert!(domain("Accelerator.llm-d.ai").is_err() && domain("a..b").is_err() && domain("a/b").is_err());
        assert!(domain("accelerator.llm-d.ai").is_ok());
        assert!(release("afd").is_err() && release("a/b/c").is_err() && release("/afd").is_err());
        assert_eq!(release("afd/gpu-1").as_deref(), Ok("afd/gpu-1"));
        assert!(compat("amd").is_err() && compat("amd=yes").is_err() && compat("asus=on").is_err());
        assert_eq!(compat("openshift=on"), Err("the set openshift has no labels".to_owned()));
        assert_eq!(compat("nvidia=on"), Ok(("nvidia".parse().expect("it is a set"), CompatSwitch::On)));
    }
}
