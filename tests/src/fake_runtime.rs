//! A fake of the runtime of a workload, which reports of its TPUs.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll},
    thread,
};

use prost::Message;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::http,
    server::{Grpc, NamedService, UnaryService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::Service;

/// The values of devices by the name of a metric.
pub type RuntimeMetrics = BTreeMap<&'static str, Vec<(AttrValue, Gauge)>>;

/// A fake runtime: gRPC with the messages of `tpu_metric_service.proto`.
#[derive(Clone, Debug)]
pub struct FakeRuntime {
    metrics: Arc<Mutex<RuntimeMetrics>>,
    calls: Arc<AtomicUsize>,
}

impl FakeRuntime {
    /// Serves these metrics; the address at which it does.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(metrics: RuntimeMetrics) -> (FakeRuntime, SocketAddr) {
        FakeRuntime::start_at("127.0.0.1:0", metrics).await
    }

    /// Serves these metrics in a thread of its own; the address at which it does.
    ///
    /// # Panics
    /// When no port is free.
    pub fn spawn(metrics: RuntimeMetrics) -> SocketAddr {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async {
                let (_, address) = FakeRuntime::start(metrics).await;
                sender.send(address).expect("the caller waits");
                std::future::pending::<()>().await;
            });
        });
        receiver.recv().expect("the thread sends its address")
    }

    /// The same at an address.
    ///
    /// # Panics
    /// When the port is not free.
    pub async fn start_at(address: &str, metrics: RuntimeMetrics) -> (FakeRuntime, SocketAddr) {
        let listener = tokio::net::TcpListener::bind(address).await.expect("the port is free");
        let address = listener.local_addr().expect("it is bound");
        let runtime = FakeRuntime { metrics: Arc::new(Mutex::new(metrics)), calls: Arc::default() };
        let serving = Server::builder().add_service(runtime.clone());
        tokio::spawn(serving.serve_with_incoming(TcpIncoming::from(listener)));
        (runtime, address)
    }

    /// Sets the metrics.
    pub fn set(&self, metrics: RuntimeMetrics) {
        *self.metrics.lock().unwrap_or_else(PoisonError::into_inner) = metrics;
    }

    /// How often it was called.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    fn metrics(&self) -> RuntimeMetrics {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Values of devices whose numbers are integers.
pub fn duty_cycles(values: &[(i64, f64)]) -> Vec<(AttrValue, Gauge)> {
    let value = |(device, value): &(i64, f64)| {
        let number = AttrValue { number: Some(DeviceNumber::Integer(*device)) };
        (number, Gauge { value: Some(GaugeValue::Double(*value)) })
    };
    values.iter().map(value).collect()
}

type Served<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl NamedService for FakeRuntime {
    const NAME: &'static str = "tpu.monitoring.runtime.RuntimeMetricService";
}

impl Service<http::Request<Body>> for FakeRuntime {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Served<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let runtime = self.clone();
        runtime.calls.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            Ok(match request.uri().path().rsplit('/').next() {
                Some("ListSupportedMetrics") => {
                    Grpc::new(ProstCodec::default()).unary(Supported(runtime), request).await
                }
                Some("GetRuntimeMetric") => {
                    Grpc::new(ProstCodec::default()).unary(Values(runtime), request).await
                }
                _ => Status::unimplemented("").into_http(),
            })
        })
    }
}

struct Supported(FakeRuntime);

impl UnaryService<ListRequest> for Supported {
    type Response = ListResponse;
    type Future = Served<Result<Response<ListResponse>, Status>>;

    fn call(&mut self, _: Request<ListRequest>) -> Self::Future {
        let names = self.0.metrics().into_keys().map(|name| SupportedName { name: name.to_owned() });
        let response = ListResponse { names: names.collect() };
        Box::pin(async move { Ok(Response::new(response)) })
    }
}

struct Values(FakeRuntime);

impl UnaryService<FakeMetricRequest> for Values {
    type Response = FakeMetricResponse;
    type Future = Served<Result<Response<FakeMetricResponse>, Status>>;

    fn call(&mut self, request: Request<FakeMetricRequest>) -> Self::Future {
        let name = request.into_inner().name;
        let values = self.0.metrics().remove(name.as_str());
        Box::pin(async move {
            let values = values.ok_or_else(|| Status::not_found("no such metric"))?;
            let metrics = values.into_iter().map(|(number, gauge)| Metric {
                attribute: Some(Attribute { key: "device-id".to_owned(), value: Some(number) }),
                gauge: Some(gauge),
            });
            let metric = Some(TpuMetric { name, metrics: metrics.collect() });
            Ok(Response::new(FakeMetricResponse { metric }))
        })
    }
}

#[derive(Clone, PartialEq, Message)]
struct ListRequest {
    #[prost(string, tag = "1")]
    filter: String,
}

#[derive(Clone, PartialEq, Message)]
struct ListResponse {
    #[prost(message, repeated, tag = "1")]
    names: Vec<SupportedName>,
}

#[derive(Clone, PartialEq, Message)]
struct SupportedName {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct FakeMetricRequest {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bool, tag = "2")]
    skip_node_aggregation: bool,
}

#[derive(Clone, PartialEq, Message)]
struct FakeMetricResponse {
    #[prost(message, optional, tag = "1")]
    metric: Option<TpuMetric>,
}

#[derive(Clone, PartialEq, Message)]
struct TpuMetric {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "3")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, optional, tag = "1")]
    attribute: Option<Attribute>,
    #[prost(message, optional, tag = "3")]
    gauge: Option<Gauge>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AttrValue>,
}

/// The number of a device.
#[derive(Clone, PartialEq, Message)]
pub struct AttrValue {
    /// The number.
    #[prost(oneof = "DeviceNumber", tags = "1, 3")]
    pub number: Option<DeviceNumber>,
}

/// As it is in newer and in older versions.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum DeviceNumber {
    /// Newer.
    #[prost(string, tag = "1")]
    Text(String),
    /// Older.
    #[prost(int64, tag = "3")]
    Integer(i64),
}

/// A value.
#[derive(Clone, PartialEq, Message)]
pub struct Gauge {
    /// The value.
    #[prost(oneof = "GaugeValue", tags = "1, 2")]
    pub value: Option<GaugeValue>,
}

/// As a share is, and as bytes are.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum GaugeValue {
    /// A share.
    #[prost(double, tag = "1")]
    Double(f64),
    /// Bytes.
    #[prost(int64, tag = "2")]
    Integer(i64),
}
