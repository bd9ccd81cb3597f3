//! What a message may weigh, by method: strangers send small ones.

use super::edge::EdgeService;
use campanile_proto::edge::v1::edge_server::EdgeServer;
use campanile_proto::segment::MAX_PAYLOAD_BYTES;
use std::convert::Infallible;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tower::Service;

/// The largest fragment, with its headers.
const STREAMED_BYTES: usize = MAX_PAYLOAD_BYTES + (1 << 20);
/// A token or a certificate request.
const UNARY_BYTES: usize = 64 << 10;
/// Methods that only a box with a certificate gets into.
const STREAMED: [&str; 2] = ["/campanile.edge.v1.Edge/Session", "/campanile.edge.v1.Edge/Deliver"];

#[derive(Clone)]
pub(super) struct Limited {
    unary: EdgeServer<EdgeService>,
    streamed: EdgeServer<EdgeService>,
}

impl Limited {
    pub fn new(service: EdgeService) -> Self {
        let server = |bytes| {
            let server = EdgeServer::new(service.clone());
            server.max_decoding_message_size(bytes).max_encoding_message_size(STREAMED_BYTES)
        };
        Self { unary: server(UNARY_BYTES), streamed: server(STREAMED_BYTES) }
    }
}

impl NamedService for Limited {
    const NAME: &'static str = <EdgeServer<EdgeService> as NamedService>::NAME;
}

impl Service<Request<Body>> for Limited {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = <EdgeServer<EdgeService> as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match STREAMED.contains(&request.uri().path()) {
            true => self.streamed.call(request),
            false => self.unary.call(request),
        }
    }
}
