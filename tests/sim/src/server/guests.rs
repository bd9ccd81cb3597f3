//! Who is connected, and how to end it.
//!
//! Belongs here: remembering each RTSP client with the context of its thread, closing clients.
//! Does not belong here: their media (`feed`).
//! Invariant: a client is closed on its own thread; from another one its watch goes on reading
//! from a closed socket and spins (seen with GStreamer 1.22).

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gstreamer::glib;
use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::prelude::*;

/// Clients that have asked for anything.
#[derive(Debug, Clone, Default)]
pub(super) struct Guests {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    present: Mutex<Vec<Guest>>,
    left: Condvar,
}

#[derive(Debug)]
struct Guest {
    client: glib::WeakRef<rtsp::RTSPClient>,
    context: glib::MainContext,
}

/// Closing is a matter of milliseconds; a client that hangs longer is left behind.
const LONGEST_GOODBYE: Duration = Duration::from_secs(3);

impl Guests {
    /// Remembers the clients of a server from now on.
    pub(super) fn welcome(&self, server: &rtsp::RTSPServer) {
        let guests = self.clone();
        server.connect_client_connected(move |_, client| {
            let noting = guests.clone();
            client.connect_options_request(move |client, _| noting.note(client));
            let noting = guests.clone();
            client.connect_describe_request(move |client, _| noting.note(client));
            let noting = guests.clone();
            client.connect_play_request(move |client, _| noting.note(client));
            let forgetting = guests.clone();
            client.connect_closed(move |client| forgetting.forget(client));
        });
    }

    fn present(&self) -> MutexGuard<'_, Vec<Guest>> {
        self.shared.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called from a request, on the client's thread: the source being dispatched is its watch.
    fn note(&self, client: &rtsp::RTSPClient) {
        let Some(context) = glib::main_current_source().and_then(|source| source.context()) else {
            return;
        };
        let mut present = self.present();
        if !present.iter().any(|guest| guest.client.upgrade().as_ref() == Some(client)) {
            present.push(Guest { client: client.downgrade(), context });
        }
    }

    fn forget(&self, client: &rtsp::RTSPClient) {
        self.present().retain(|guest| guest.client.upgrade().is_some_and(|known| known != *client));
        self.shared.left.notify_all();
    }

    /// Closes the clients that `which` picks and waits until they are gone.
    pub(super) fn dismiss(&self, which: impl Fn(&rtsp::RTSPClient) -> bool) {
        let mut leaving = Vec::new();
        for guest in self.present().iter() {
            leaving.extend(guest.client.upgrade().map(|client| (client, guest.context.clone())));
        }
        leaving.retain(|(client, _)| which(client));
        for (client, context) in &leaving {
            let client = client.clone();
            context.invoke(move || client.close());
        }
        let gone = |present: &mut Vec<Guest>| {
            present.iter().any(|guest| {
                guest.client.upgrade().is_some_and(|client| leaving.iter().any(|(left, _)| *left == client))
            })
        };
        // Past the limit the rest is left to end by itself.
        let _ = self.shared.left.wait_timeout_while(self.present(), LONGEST_GOODBYE, gone);
    }
}
