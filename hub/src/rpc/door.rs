//! In front of every service: a path that no action stands for is not served.

use crate::access::action_of_method;
use futures::future::{Either, Ready, ready};
use std::task::{Context, Poll};
use tonic::Status;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

/// Lets calls through whose method is in `access::METHODS`.
#[derive(Clone, Copy)]
pub(super) struct Listed;

#[derive(Clone)]
pub(super) struct OnlyListed<S>(S);

impl<S> Layer<S> for Listed {
    type Service = OnlyListed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        OnlyListed(inner)
    }
}

impl<S, B, A> Service<Request<B>> for OnlyListed<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    A: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match action_of_method(request.uri().path()) {
            Some(_) => Either::Left(self.0.call(request)),
            None => Either::Right(ready(Ok(Status::unimplemented("").into_http()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use tower::ServiceExt;

    #[tokio::test]
    async fn a_method_without_an_action_is_not_reached() {
        let behind =
            tower::service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new("reached".to_owned())) });
        let call = async |path: &str| {
            let request = Request::builder().uri(path).body(()).unwrap();
            Listed.layer(behind).oneshot(request).await.unwrap()
        };
        for (listed, _) in crate::access::METHODS {
            assert_eq!(call(listed).await.body(), "reached", "{listed}");
        }
        for planted in
            ["/campanile.edge.v1.Edge/Planted", "/campanile.edge.v1.Edge/enrol", "/grpc.health.v1.Health/Check", "/"]
        {
            let refused = call(planted).await;
            assert_eq!(
                (refused.body().as_str(), refused.headers()["grpc-status"].as_bytes()),
                ("", &b"12"[..]),
                "{planted}"
            );
        }
    }
}
