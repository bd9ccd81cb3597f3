//! The hub behind its federation: each call goes straight to the part that knows.

use super::owner::{Entry, NotReleased, Owner, Picture, Wanted};
use crate::access::{Refusal, Request};
use crate::catalog::{Camera, CatalogError};
use crate::hub::Hub;
use crate::media::PlaybackError;
use crate::register::{RegisterError, Root};
use crate::search::{Query, SearchError};
use bytes::Bytes;
use campanile_proto::federation::v1::{CameraCard, Listing, SearchHit, SignedEnvelope};
use campanile_proto::ids::{CameraId, EventId, RequestId, RunId};
use campanile_proto::kind::Kind;
use campanile_proto::time::WallTime;
use campanile_proto::types::v1::{Act, Stream};
use futures::future::BoxFuture;

fn not_released<E>(what: &'static str, kind: fn(&E) -> Kind) -> impl FnOnce(E) -> NotReleased
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |source| NotReleased { what, kind: kind(&source), source: Box::new(source) }
}

impl Owner for Hub {
    fn enter(&self, request: Request) -> BoxFuture<'_, Result<Entry, Refusal>> {
        Box::pin(async move { Ok(Entry::of(self.door.enter(request).await?)) })
    }

    fn note_refused(&self, act: Act, who: String, code: String) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.door.note(act, &who, &code).await })
    }

    fn search(&self, wanted: Wanted) -> BoxFuture<'_, Result<Vec<SearchHit>, NotReleased>> {
        let query = Query {
            from: wanted.from,
            to: wanted.to,
            cameras: wanted.cameras,
            site: None,
            words: wanted.words,
            region: wanted.region,
            limit: wanted.limit,
        };
        Box::pin(async move { self.search.run(query).await.map_err(not_released("a search", SearchError::kind)) })
    }

    fn cards(&self, cameras: Vec<CameraId>) -> BoxFuture<'_, Result<Vec<CameraCard>, NotReleased>> {
        Box::pin(async move {
            let all = self.catalog.cameras().await.map_err(not_released("the cameras", CatalogError::kind))?;
            let wanted = all.into_iter().filter(|camera| cameras.contains(&camera.id));
            let card = |camera: Camera| CameraCard {
                camera_id: camera.id.into(),
                name: camera.name,
                site: camera.site,
                address: camera.address,
                latitude: camera.latitude,
                longitude: camera.longitude,
            };
            Ok(wanted.map(card).collect())
        })
    }

    fn picture(&self, event: EventId) -> BoxFuture<'_, Result<Option<Picture>, NotReleased>> {
        Box::pin(async move {
            let failed = || not_released("a thumbnail", CatalogError::kind);
            let Some(row) = self.derived.event(event).await.map_err(failed())? else { return Ok(None) };
            let jpeg = self.derived.thumbnail(event).await.map_err(failed())?;
            Ok(jpeg.map(|jpeg| Picture { camera: row.camera, start: row.start, jpeg }))
        })
    }

    fn listing(
        &self,
        access: RequestId,
        camera: CameraId,
        from: WallTime,
        to: WallTime,
    ) -> BoxFuture<'_, Result<Listing, NotReleased>> {
        Box::pin(async move {
            self.playback
                .listing(access, camera, from, to)
                .await
                .map_err(not_released("a listing", PlaybackError::kind))
        })
    }

    fn init(
        &self,
        access: RequestId,
        camera: CameraId,
        stream: Stream,
        run: RunId,
    ) -> BoxFuture<'_, Result<Bytes, NotReleased>> {
        Box::pin(async move {
            self.playback
                .init(access, camera, stream, run)
                .await
                .map_err(not_released("an init section", PlaybackError::kind))
        })
    }

    fn group(
        &self,
        access: RequestId,
        camera: CameraId,
        stream: Stream,
        run: RunId,
        (first, last): (u64, u64),
        zero: WallTime,
    ) -> BoxFuture<'_, Result<Bytes, NotReleased>> {
        Box::pin(async move {
            let group = self.playback.group(access, camera, stream, run, (first, last), zero).await;
            group.map_err(not_released("a group", PlaybackError::kind))
        })
    }

    fn checkpoint(&self) -> BoxFuture<'_, Result<SignedEnvelope, NotReleased>> {
        Box::pin(
            async move { self.register.checkpoint().await.map_err(not_released("a checkpoint", RegisterError::kind)) },
        )
    }

    fn begins_with(&self, then: Root) -> BoxFuture<'_, Result<bool, NotReleased>> {
        Box::pin(async move {
            self.register.begins_with(Some(then)).await.map_err(not_released("a comparison", RegisterError::kind))
        })
    }

    fn growth(&self, old: u64, new: u64) -> BoxFuture<'_, Result<Vec<[u8; 32]>, NotReleased>> {
        Box::pin(async move {
            self.register.consistency(old, new).await.map_err(not_released("a proof", RegisterError::kind))
        })
    }
}
