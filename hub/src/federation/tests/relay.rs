//! What stands between two hubs and holds the TLS key: it may read envelopes and change chunks.

use crate::federation::Service;
use campanile_proto::federation::v1::federation_server::Federation;
use campanile_proto::federation::v1::{IntroduceRequest, Introduction, Receipt, SealedChunk, SignedEnvelope};
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};

/// Chunk number and chunk in; what goes on, if anything.
pub type Mangle = fn(usize, SealedChunk) -> Option<SealedChunk>;

pub struct Relay {
    pub inner: Service,
    pub mangle: Option<Mangle>,
}

type Chunks = BoxStream<'static, Result<SealedChunk, Status>>;

impl Relay {
    fn pass<S>(&self, answer: Response<S>) -> Result<Response<Chunks>, Status>
    where
        S: futures::Stream<Item = Result<SealedChunk, Status>> + Send + 'static,
    {
        let mangle = self.mangle.unwrap_or(|_, chunk| Some(chunk));
        let changed = answer.into_inner().enumerate().filter_map(move |(number, chunk)| async move {
            match chunk {
                Ok(chunk) => mangle(number, chunk).map(Ok),
                Err(status) => Some(Err(status)),
            }
        });
        Ok(Response::new(changed.boxed()))
    }
}

#[tonic::async_trait]
impl Federation for Relay {
    type SearchStream = Chunks;
    type ThumbnailStream = Chunks;
    type OpenStream = Chunks;
    type MediaStream = Chunks;

    async fn introduce(&self, r: Request<IntroduceRequest>) -> Result<Response<Introduction>, Status> {
        self.inner.introduce(r).await
    }
    async fn propose(&self, r: Request<SignedEnvelope>) -> Result<Response<Receipt>, Status> {
        self.inner.propose(r).await
    }
    async fn conclude(&self, r: Request<SignedEnvelope>) -> Result<Response<Receipt>, Status> {
        self.inner.conclude(r).await
    }
    async fn revoke(&self, r: Request<SignedEnvelope>) -> Result<Response<Receipt>, Status> {
        self.inner.revoke(r).await
    }
    async fn search(&self, r: Request<SignedEnvelope>) -> Result<Response<Chunks>, Status> {
        self.pass(self.inner.search(r).await?)
    }
    async fn thumbnail(&self, r: Request<SignedEnvelope>) -> Result<Response<Chunks>, Status> {
        self.pass(self.inner.thumbnail(r).await?)
    }
    async fn open(&self, r: Request<SignedEnvelope>) -> Result<Response<Chunks>, Status> {
        self.pass(self.inner.open(r).await?)
    }
    async fn media(&self, r: Request<SignedEnvelope>) -> Result<Response<Chunks>, Status> {
        self.pass(self.inner.media(r).await?)
    }
    async fn renew(&self, r: Request<SignedEnvelope>) -> Result<Response<Receipt>, Status> {
        self.inner.renew(r).await
    }
    async fn close(&self, r: Request<SignedEnvelope>) -> Result<Response<Receipt>, Status> {
        self.inner.close(r).await
    }
    async fn witness(&self, r: Request<SignedEnvelope>) -> Result<Response<SignedEnvelope>, Status> {
        self.inner.witness(r).await
    }
}
