//! Putting a camera's streams on the RTSP server.
//!
//! Belongs here: mount points, authentication, wiring each new client's pipeline to its feeder.
//! Does not belong here: sending (`feed`).
//! Invariant: a media is never shared; only a camera's own user constructs its streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_rtsp as gst_rtsp;
use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::prelude::*;
use tracing::error;

use super::camera::{Camera, Stream};
use super::feed::Feeder;
use crate::config::CameraConfig;
use crate::units::Codec;

/// A role is a structure's name in GStreamer: letters first, nothing from the configuration.
fn role(username: &str) -> String {
    format!("user{}", hex::encode(username))
}

/// Digest authentication (RFC 2617 in RTSP 1.0) for all cameras' users.
pub(super) fn authentication(cameras: &[CameraConfig]) -> rtsp::RTSPAuth {
    let auth = rtsp::RTSPAuth::new();
    auth.set_supported_methods(gst_rtsp::RTSPAuthMethod::Digest);
    auth.set_realm(Some("campanile-simcam"));
    for camera in cameras {
        let token =
            rtsp::RTSPToken::builder().field(rtsp::RTSP_TOKEN_MEDIA_FACTORY_ROLE, role(&camera.username)).build();
        auth.add_digest(&camera.username, camera.password.reveal(), &token);
    }
    auth
}

/// Mounts a camera's streams.
pub(super) fn add(mounts: &rtsp::RTSPMountPoints, camera: &Arc<Camera>) {
    for stream in &camera.streams {
        mounts.add_factory(&camera.path(stream), factory(camera, stream));
    }
}

fn factory(camera: &Arc<Camera>, stream: &Arc<Stream>) -> rtsp::RTSPMediaFactory {
    let payloader = match stream.program.clip.codec {
        Codec::H264 => "rtph264pay",
        Codec::H265 => "rtph265pay",
    };
    let factory = rtsp::RTSPMediaFactory::new();
    // No parser: the access units reach the payloader as the file or encoder made them.
    factory.set_launch(&format!(
        "( appsrc name=src is-live=true format=time do-timestamp=false max-bytes=0 \
         ! {payloader} name=pay0 pt=96 config-interval=-1 aggregate-mode=zero-latency )"
    ));
    factory.set_shared(false);
    factory.set_protocols(gst_rtsp::RTSPLowerTrans::TCP | gst_rtsp::RTSPLowerTrans::UDP);
    factory.add_role_from_structure(
        &gst::Structure::builder(role(&camera.username))
            .field(rtsp::RTSP_PERM_MEDIA_FACTORY_ACCESS, true)
            .field(rtsp::RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, true)
            .build(),
    );
    let (camera, stream) = (camera.clone(), stream.clone());
    factory.connect_media_configure(move |_, media| configure(&camera, &stream, media));
    factory
}

/// A client described the stream: start its feeder.
fn configure(camera: &Arc<Camera>, stream: &Arc<Stream>, media: &rtsp::RTSPMedia) {
    let parts = media.element().downcast::<gst::Bin>().ok().and_then(|bin| {
        let source = bin.by_name("src")?.downcast::<gst_app::AppSrc>().ok()?;
        Some((source, bin.by_name("pay0")?))
    });
    let Some((source, payloader)) = parts else {
        error!(camera = %camera.name, "media without its own elements");
        return;
    };
    source.set_caps(Some(&stream.program.clip.caps));
    let ended = Arc::new(AtomicBool::new(false));
    let feeder = Feeder::new(camera.clone(), stream.clone(), source, ended.clone());
    payloader.set_property("timestamp-offset", feeder.timestamp_offset());
    let waking = camera.clone();
    media.connect_unprepared(move |_| {
        ended.store(true, Ordering::Release);
        waking.gate.wake();
    });
    let name = format!("feed-{}", stream.kind);
    match std::thread::Builder::new().name(name).spawn(move || feeder.run()) {
        Ok(thread) => camera.keep_feeder(thread),
        Err(error) => error!(camera = %camera.name, %error, "feeder does not start"),
    }
}
