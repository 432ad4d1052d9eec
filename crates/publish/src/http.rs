//! The scrape endpoints: `/`, `/metrics`, `/compat/dcgm`, `/inventory`, `/healthz`, `/readyz` over HTTP/1.1.
//!
//! A request copies rendered bytes: it reads no file, queries no library, and takes no lock that the loop holds while it
//! works.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, VARY},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

use crate::page::{Page, RenderedPages};

/// The latest pages; `None` before the first inventory is complete.
pub type LatestPages = watch::Receiver<Option<Arc<RenderedPages>>>;

/// Further clients wait until a connection is closed. Prometheus, EPP and a few users need fewer.
const MAX_CONNECTIONS: usize = 256;
/// A client that does not send its request headers in this time is disconnected.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What a listener serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListenerRole {
    /// All pages.
    Agent,
    /// `/compat/dcgm` as `/metrics`, on the port of dcgm-exporter.
    Dcgm,
}

/// Serves requests until `shutdown` completes.
pub async fn serve(
    listener: TcpListener,
    role: ListenerRole,
    pages: LatestPages,
    shutdown: impl Future<Output = ()>,
) {
    tokio::pin!(shutdown);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "connection not accepted");
                // Most likely out of file descriptors: an immediate retry would fail again.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // A response is sent at once, without waiting for more data.
        let _ = stream.set_nodelay(true);
        let pages = pages.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = respond(&request, role, pages.borrow().as_deref());
                async move { Ok::<_, Infallible>(response) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "connection ended early");
            }
            drop(permit);
        });
    }
}

fn respond<B>(
    request: &Request<B>,
    role: ListenerRole,
    pages: Option<&RenderedPages>,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are supported\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    const NOT_YET: &str = "the first inventory is not complete yet\n";
    let path = match (role, request.uri().path()) {
        (ListenerRole::Dcgm, "/metrics") => "/compat/dcgm",
        (ListenerRole::Dcgm, path) if path == "/" || path == "/inventory" || path.starts_with("/compat/") => {
            ""
        }
        (_, path) => path,
    };
    match (path, pages) {
        ("/healthz", Some(pages)) if pages.rendered_at.elapsed() > pages.stale_after => {
            text(StatusCode::SERVICE_UNAVAILABLE, "the loop is stuck: reading a kernel file may hang\n")
        }
        ("/healthz", _) | ("/readyz", Some(_)) => text(StatusCode::OK, "ok\n"),
        ("/", Some(pages)) => page(request.headers(), &pages.status_page),
        ("/metrics", Some(pages)) => page(request.headers(), &pages.metrics),
        ("/compat/dcgm", Some(pages)) => page(request.headers(), &pages.dcgm),
        ("/inventory", Some(pages)) => page(request.headers(), &pages.inventory),
        (path, None) if path.starts_with("/compat/") => text(StatusCode::SERVICE_UNAVAILABLE, NOT_YET),
        (path, Some(pages)) if let Some(found) = compat(path, pages) => page(request.headers(), found),
        ("/" | "/metrics" | "/inventory" | "/readyz", None) => text(StatusCode::SERVICE_UNAVAILABLE, NOT_YET),
        _ if role == ListenerRole::Dcgm => {
            text(StatusCode::NOT_FOUND, "not found; available: /metrics, /healthz, /readyz\n")
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "not found; available: /, /metrics, /compat/dcgm, /inventory, /healthz, /readyz\n",
        ),
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

/// Whether `gzip` is an accepted encoding with a quality above 0 (RFC 9110, 12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let listed = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    listed.flat_map(|value| value.split(',')).any(|encoding| {
        let (name, quality) = encoding.split_once(';').unwrap_or((encoding, ""));
        let rejected = quality.trim().strip_prefix("q=").is_some_and(|q| q.trim().parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !rejected
    })
}

fn text(status: StatusCode, message: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(message.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn pages(stale_after: Duration) -> RenderedPages {
        RenderedPages {
            status_page: Arc::new(Page::new("text/html; charset=utf-8", "<!doctype html>")),
            metrics: Page::new("text/plain; version=0.0.4", "up 1\n"),
            dcgm: Page::new("text/plain; version=0.0.4", "DCGM 1\n"),
            inventory: Page::new("application/json", "{}"),
            compat: vec![("amd", Page::new("text/plain; version=0.0.4", "gpu_nodes_total 1\n"))],
            rendered_at: Instant::now(),
            stale_after,
        }
    }

    fn respond_to(method: &str, path: &str, encoding: &str, pages: Option<&RenderedPages>) -> (u16, bool) {
        let request = Request::builder().method(method).uri(path).header(ACCEPT_ENCODING, encoding).body(());
        let response = respond(&request.expect("the request is complete"), ListenerRole::Agent, pages);
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
            respond(&request, ListenerRole::Dcgm, Some(&pages)).status().as_u16()
        };
        assert_eq!([status("/metrics"), status("/healthz"), status("/readyz")], [200, 200, 200]);
        assert_eq!([status("/"), status("/inventory"), status("/compat/dcgm")], [404, 404, 404]);
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
