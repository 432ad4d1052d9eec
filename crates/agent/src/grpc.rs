//! A client for unary calls of gRPC over TCP, for servers on the node that a process of ours queries. It blocks, and every connection
//! has one deadline for all of its calls.

use std::{io, net::SocketAddr, time::Duration};

use bytes::{Buf, BufMut};
use tokio::{
    runtime::Runtime,
    time::{Instant, timeout_at},
};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};

/// The longest response.
const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// A connection with its deadline.
pub struct GrpcConnection {
    runtime: Runtime,
    client: Grpc<Channel>,
    deadline: Instant,
}

/// Why a call has no response.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// Nothing listens at the address.
    #[error("nothing listens")]
    Absent,
    /// There was no response in time.
    #[error("no response in time")]
    Late,
    /// The server has no such method.
    #[error("there is no such method")]
    Unimplemented,
    /// Any other failure.
    #[error("{0}")]
    Failed(String),
}

impl GrpcConnection {
    /// Connects; the time is for this and for all calls.
    ///
    /// # Errors
    /// When nothing listens, or the server does not accept in time.
    pub fn open(address: SocketAddr, time: Duration) -> Result<GrpcConnection, GrpcError> {
        let failed =
            |error: &dyn std::error::Error| GrpcError::Failed(format!("the connection failed ({error})"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| failed(&error))?;
        let connecting = async {
            let deadline = Instant::now() + time;
            (deadline, timeout_at(deadline, endpoint.connect()).await)
        };
        let (deadline, connected) = runtime.block_on(connecting);
        let channel = connected.map_err(|_| GrpcError::Late)?.map_err(|error| match refused(&error) {
            true => GrpcError::Absent,
            false => failed(&error),
        })?;
        let client = Grpc::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
        Ok(GrpcConnection { runtime, client, deadline })
    }

    /// The response to a request, both as encoded messages.
    ///
    /// # Errors
    /// When there is no response in time, or one that is an error.
    pub fn call(&mut self, path: &'static str, message: Vec<u8>) -> Result<Vec<u8>, GrpcError> {
        let client = &mut self.client;
        let calling = async {
            client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            client.unary(Request::new(message), PathAndQuery::from_static(path), EncodedMessages).await
        };
        match self.runtime.block_on(async { timeout_at(self.deadline, calling).await }) {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(match status.code() {
                Code::Unimplemented => GrpcError::Unimplemented,
                code => GrpcError::Failed(format!("the call failed ({code})")),
            }),
            Err(_) => Err(GrpcError::Late),
        }
    }
}

/// Whether nothing listens.
fn refused(error: &tonic::transport::Error) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        {
            return true;
        }
        source = error.source();
    }
    false
}

/// Messages that are encoded already, and left so.
struct EncodedMessages;

impl Codec for EncodedMessages {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = EncodedMessages;
    type Decoder = EncodedMessages;

    fn encoder(&mut self) -> EncodedMessages {
        EncodedMessages
    }

    fn decoder(&mut self) -> EncodedMessages {
        EncodedMessages
    }
}

impl Encoder for EncodedMessages {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&message);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for EncodedMessages {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}
