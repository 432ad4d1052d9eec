//! The response to a request: a page by its path, or the health of the agent.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{
        ACCEPT_ENCODING, AGE, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
        HeaderMap, HeaderValue, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
    },
};
use tokio::sync::watch;

use super::access::Audience;
use crate::page::{Page, RenderedPages};

/// The latest pages; `None` before the first inventory is complete.
pub type LatestPages = watch::Receiver<Option<Arc<RenderedPages>>>;

/// When the agent counts as unhealthy although it serves.
#[derive(Clone, Debug)]
pub struct HealthLimits {
    /// When the first discovery began; none while the agent waits for its turn.
    pub discovering_since: Arc<OnceLock<Instant>>,
    /// How long the first discovery may take.
    pub first_discovery: Duration,
}

impl HealthLimits {
    /// Whether the first discovery takes too long.
    fn is_stuck(&self) -> bool {
        self.discovering_since.get().is_some_and(|since| since.elapsed() > self.first_discovery)
    }
}

/// What a listener serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListenerRole {
    /// All pages.
    Agent,
    /// The metrics for endpoint pickers as `/metrics`, on the port of dcgm-exporter.
    Dcgm,
    /// `/healthz` and `/readyz`, for the kubelet.
    Health,
}

impl ListenerRole {
    /// The spelling in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            ListenerRole::Agent => "agent",
            ListenerRole::Dcgm => "dcgm",
            ListenerRole::Health => "health",
        }
    }

    /// How many connections may be open; Prometheus, EPP and a few users need fewer, and the kubelet one.
    pub(super) fn max_connections(self) -> usize {
        match self {
            ListenerRole::Agent | ListenerRole::Dcgm => 64,
            ListenerRole::Health => 16,
        }
    }

    fn available(self) -> &'static str {
        match self {
            ListenerRole::Agent => {
                "not found; available: /, /live, /metrics, /compat/dcgm, /inventory, /healthz, /readyz\n"
            }
            ListenerRole::Dcgm => "not found; available: /metrics, /healthz, /readyz\n",
            ListenerRole::Health => "not found; available: /healthz, /readyz\n",
        }
    }

    /// The page that a path of this listener is, as [`ListenerRole::Agent`] names it; empty if there is none.
    fn page_path(self, path: &str) -> &str {
        match (self, path) {
            (_, "/healthz" | "/readyz") | (ListenerRole::Agent, _) => path,
            (ListenerRole::Dcgm, "/metrics") => DOOR,
            (ListenerRole::Dcgm | ListenerRole::Health, _) => "",
        }
    }
}

/// The page of the listener for endpoint pickers: no path of a request.
const DOOR: &str = "the door";

pub(super) fn respond<B>(
    request: &Request<B>,
    role: ListenerRole,
    audience: Audience,
    pages: Option<&RenderedPages>,
    health: &HealthLimits,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are supported\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    const NOT_YET: &str = "the first inventory is not complete yet\n";
    match (role.page_path(request.uri().path()), pages) {
        ("/healthz", Some(pages)) if pages.rendered_at.elapsed() > pages.stale_after => {
            text(StatusCode::SERVICE_UNAVAILABLE, "the loop is stuck: reading a kernel file may hang\n")
        }
        ("/healthz", None) if health.is_stuck() => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the first discovery is stuck: reading a kernel file may hang\n",
        ),
        ("/healthz", _) | ("/readyz", Some(_)) => text(StatusCode::OK, "ok\n"),
        ("/", Some(pages)) => live_page(request.headers(), &pages.status_page, pages),
        ("/live", Some(pages)) => live_page(request.headers(), &pages.live, pages),
        ("/live.html", Some(pages)) => live_page(request.headers(), &pages.live_part, pages),
        ("/metrics", Some(pages)) => page(request.headers(), &pages.metrics),
        ("/compat/dcgm", Some(pages)) => page(request.headers(), &pages.dcgm),
        (DOOR, Some(pages)) => page(request.headers(), &pages.door),
        ("/inventory", Some(pages)) => match audience {
            Audience::Public => page(request.headers(), &pages.inventory.public),
            Audience::Trusted => page(request.headers(), &pages.inventory.complete),
        },
        (path, None) if path.starts_with("/compat/") => text(StatusCode::SERVICE_UNAVAILABLE, NOT_YET),
        (path, Some(pages)) if let Some(found) = compat(path, pages) => page(request.headers(), found),
        ("/" | "/live" | "/live.html" | "/metrics" | "/inventory" | "/readyz" | DOOR, None) => {
            text(StatusCode::SERVICE_UNAVAILABLE, NOT_YET)
        }
        _ => text(StatusCode::NOT_FOUND, role.available()),
    }
}

fn compat<'p>(path: &str, pages: &'p RenderedPages) -> Option<&'p Page> {
    let name = path.strip_prefix("/compat/")?;
    pages.compat.iter().find(|(candidate, _)| *candidate == name).map(|(_, page)| page)
}

fn page(request: &HeaderMap, page: &Page) -> Response<Full<Bytes>> {
    let compressed = accepts_gzip(request);
    let body = if compressed { page.gzip() } else { page.plain() };
    let mut response = Response::new(Full::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(page.content_type()));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if compressed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// A page that shows values of one time. Its age is a header, since the loop that renders it may be stuck.
fn live_page(request: &HeaderMap, shown: &Page, pages: &RenderedPages) -> Response<Full<Bytes>> {
    let mut response = page(request, shown);
    let headers = response.headers_mut();
    headers.insert(AGE, HeaderValue::from(pages.rendered_at.elapsed().as_secs()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Some(policy) = shown.policy() {
        headers.insert(CONTENT_SECURITY_POLICY, policy.clone());
    }
    response
}

/// Whether `gzip` is an accepted encoding with a quality above 0 (RFC 9110, 12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let listed = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    listed.flat_map(|value| value.split(',')).any(|encoding| {
        let (name, quality) = encoding.split_once(';').unwrap_or((encoding, ""));
        let rejected = quality.trim().strip_prefix("q=").is_some_and(|q| q.trim().parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !rejected
    })
}

pub(super) fn text(status: StatusCode, message: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(message.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{InventoryPages, PageContent};

    fn pages(stale_after: Duration) -> RenderedPages {
        RenderedPages {
            status_page: Page::rendered_on_request("text/html; charset=utf-8", || {
                PageContent::from("<!doctype html><main></main>").with_policy("default-src 'none'")
            }),
            live_part: Page::new("text/html; charset=utf-8", "<main></main>"),
            live: Page::new("application/json", "{}"),
            metrics: Page::new("text/plain; version=0.0.4", "up 1\n"),
            dcgm: Page::new("text/plain; version=0.0.4", "DCGM 1\n"),
            door: Page::new("text/plain; version=0.0.4", "DOOR 1\n"),
            inventory: Arc::new(InventoryPages {
                public: Page::new("application/json", "{}"),
                complete: Page::new("application/json", "{\"serial\": \"1\"}"),
            }),
            compat: vec![("amd", Page::new("text/plain; version=0.0.4", "gpu_nodes_total 1\n"))],
            rendered_at: Instant::now(),
            stale_after,
        }
    }

    const STARTED: Duration = Duration::from_secs(120);

    fn health(first_discovery: Duration) -> HealthLimits {
        let discovering_since = Arc::new(OnceLock::from(Instant::now()));
        HealthLimits { discovering_since, first_discovery }
    }

    fn respond_to(method: &str, path: &str, encoding: &str, pages: Option<&RenderedPages>) -> (u16, bool) {
        let request = Request::builder().method(method).uri(path).header(ACCEPT_ENCODING, encoding).body(());
        let response = request.expect("the request is complete");
        let response = respond(&response, ListenerRole::Agent, Audience::Public, pages, &health(STARTED));
        (response.status().as_u16(), response.headers().contains_key(CONTENT_ENCODING))
    }

    #[test]
    fn pages_are_unavailable_before_the_first_inventory_but_the_agent_is_healthy() {
        assert_eq!(respond_to("GET", "/metrics", "", None).0, 503);
        assert_eq!(respond_to("GET", "/readyz", "", None).0, 503);
        assert_eq!(respond_to("GET", "/compat/amd", "", None).0, 503);
        assert_eq!(respond_to("GET", "/healthz", "", None).0, 200);
    }

    #[test]
    fn a_stuck_loop_is_unhealthy_and_its_pages_are_still_served() {
        let stuck = pages(Duration::ZERO);
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(respond_to("GET", "/healthz", "", Some(&stuck)).0, 503);
        assert_eq!(respond_to("GET", "/metrics", "", Some(&stuck)).0, 200);
    }

    #[test]
    fn what_shows_values_of_one_time_says_how_old_they_are() {
        let mut old = pages(Duration::ZERO);
        old.rendered_at -= Duration::from_secs(95);
        let request = |path: &str| Request::builder().uri(path).body(()).expect("the request is complete");
        for path in ["/", "/live", "/live.html"] {
            let limits = health(STARTED);
            let role = ListenerRole::Agent;
            let response = respond(&request(path), role, Audience::Public, Some(&old), &limits);
            let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
            assert_eq!((response.status().as_u16(), header(AGE)), (200, Some("95")), "{path}");
            assert_eq!(header(CACHE_CONTROL), Some("no-store"), "{path}");
            assert_eq!(header(CONTENT_SECURITY_POLICY), Some("default-src 'none'").filter(|_| path == "/"));
        }
        assert_eq!(old.status_page.plain(), "<!doctype html><main></main>");
    }

    #[test]
    fn gzip_is_sent_only_to_clients_that_accept_it() {
        let pages = pages(Duration::from_secs(60));
        assert_eq!(respond_to("GET", "/metrics", "gzip", Some(&pages)), (200, true));
        assert_eq!(respond_to("GET", "/metrics", "deflate, gzip;q=0.5", Some(&pages)), (200, true));
        assert_eq!(respond_to("GET", "/metrics", "gzip;q=0, identity", Some(&pages)), (200, false));
        assert_eq!(respond_to("GET", "/metrics", "identity", Some(&pages)), (200, false));
    }

    #[test]
    fn the_dcgm_listener_serves_the_dcgm_metrics_only() {
        let pages = pages(Duration::from_secs(60));
        let status = |path: &str| {
            let request = Request::builder().uri(path).body(()).expect("the request is complete");
            respond(&request, ListenerRole::Dcgm, Audience::Public, Some(&pages), &health(STARTED))
                .status()
                .as_u16()
        };
        assert_eq!([status("/metrics"), status("/healthz"), status("/readyz")], [200, 200, 200]);
        assert_eq!(["/", "/live", "/live.html", "/inventory", "/compat/dcgm"].map(status), [404; 5]);
    }

    #[test]
    fn the_health_listener_serves_health_only() {
        let pages = pages(Duration::from_secs(60));
        let status = |path: &str| {
            let request = Request::builder().uri(path).body(()).expect("the request is complete");
            respond(&request, ListenerRole::Health, Audience::Trusted, Some(&pages), &health(STARTED))
                .status()
                .as_u16()
        };
        assert_eq!([status("/healthz"), status("/readyz")], [200, 200]);
        assert_eq!(["/", "/live", "/metrics", "/inventory", "/compat/dcgm"].map(status), [404; 5]);
    }

    #[test]
    fn a_first_discovery_that_hangs_is_unhealthy() {
        let request = Request::builder().uri("/healthz").body(()).expect("the request is complete");
        let limits = health(Duration::ZERO);
        std::thread::sleep(Duration::from_millis(1));
        for role in [ListenerRole::Agent, ListenerRole::Dcgm, ListenerRole::Health] {
            assert_eq!(respond(&request, role, Audience::Public, None, &limits).status().as_u16(), 503);
        }
        let waiting = HealthLimits { discovering_since: Arc::default(), ..limits };
        let response = respond(&request, ListenerRole::Health, Audience::Public, None, &waiting);
        assert_eq!(response.status().as_u16(), 200, "it waits for another agent of its Node");
    }

    #[test]
    fn unsupported_methods_and_unknown_paths_have_different_statuses() {
        let pages = pages(Duration::from_secs(60));
        assert_eq!(respond_to("POST", "/metrics", "", Some(&pages)).0, 405);
        assert_eq!(respond_to("GET", "/", "", Some(&pages)).0, 200);
        assert_eq!(respond_to("GET", "/nothing", "", Some(&pages)).0, 404);
        assert_eq!(respond_to("GET", "/compat/amd", "", Some(&pages)).0, 200);
        assert_eq!(respond_to("GET", "/compat/xpum", "", Some(&pages)).0, 404);
    }
}
