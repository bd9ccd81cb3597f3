//! What browsers and the command line talk to: REST, HLS, the operators' page, the administration socket.
//!
//! Belongs here: HTTP, TLS, cookies, JSON, playlists' addresses, one file a resource.
//! Does not belong here: deciding (`access`), finding (`search`), packaging (`media`), partners (`federation`).
//! Invariant: every route is made by [`routes::Routes::add`], which passes the door before it answers.

mod administration;
mod agreements;
mod cameras;
pub mod client;
mod clock;
mod coverage;
mod edges;
mod holds;
mod input;
mod listen;
mod output;
mod pages;
mod partners;
mod people;
mod playbacks;
mod problem;
mod register;
mod routes;
mod same_origin;
mod searches;
mod session;
#[cfg(test)]
mod tests;
mod thumbnails;
mod tls;
mod unsealings;
mod viewings;

pub use tls::{Announce, Tls, WebError};

use crate::hub::Hub;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What all routes share.
pub(crate) struct Web {
    hub: Arc<Hub>,
    /// Searches of the last hour: their thumbnails carry the same purpose and case.
    searches: searches::Remembered,
    viewings: viewings::Viewings,
    /// Cookies are `Secure` when the browser speaks TLS, to us or to the declared proxy.
    secure_cookies: bool,
    /// Searches under way; they end with the stop.
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Web {
    fn new(hub: Arc<Hub>, tls: &Tls, stop: CancellationToken) -> Self {
        Self {
            searches: searches::Remembered::new(hub.clock.clone()),
            viewings: viewings::Viewings::new(hub.clock.clone()),
            secure_cookies: tls.browser_speaks_tls(),
            tasks: TaskTracker::new(),
            stop,
            hub,
        }
    }
}

/// Serves the page and REST on `listener` and on the administration socket until `stop`.
pub async fn serve(
    hub: Arc<Hub>,
    tls: Tls,
    listener: TcpListener,
    announce: Announce,
    stop: CancellationToken,
) -> Result<(), WebError> {
    let socket_path = hub.config.data_dir.join("admin.sock");
    let socket = listen::bind_administration(&socket_path)?;
    let web = Arc::new(Web::new(hub, &tls, stop.clone()));
    let router = routes::all(web.clone()).router();
    let reaper = viewings::reap(web.clone(), stop.clone());
    let reloader = tls.clone().reload(announce, stop.clone());
    let operators = listen::operators(listener, tls, router.clone(), hosts(&web), stop.clone());
    let administrators = listen::administrators(socket, router, stop.clone());
    // In one task, so that a panic of any of them is the hub's.
    tokio::join!(operators, administrators, reaper, reloader);
    web.tasks.close();
    web.tasks.wait().await;
    web.viewings.close_all().await;
    // The path may already belong to a hub started after this one.
    let _ = std::fs::remove_file(socket_path);
    Ok(())
}

fn hosts(web: &Web) -> same_origin::Hosts {
    same_origin::Hosts::new(&web.hub.config.web)
}
