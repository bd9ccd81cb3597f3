//! How many may be connected: in all, and without a certificate of ours, from one network and altogether.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo, TlsConnectInfo};

/// A thousand boxes with two connections each, and as many that are known to be dead only later.
const ALL: usize = 4_096;
/// Boxes being enrolled, partners, and handshakes not yet done; a cabinet router may stand before dozens.
pub(super) const STRANGERS: usize = 64;
/// However many addresses they come from, the boxes' places stay free.
const ALL_STRANGERS: usize = 1_024;

/// By network, see [`network`].
type Strangers = Arc<Mutex<HashMap<IpAddr, usize>>>;

fn locked(strangers: &Strangers) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    strangers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one subscriber can take at will: an IPv4 address, an IPv6 /64 (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::from((u128::from(address) & !u128::from(u64::MAX)).to_be_bytes()),
        v4 => v4,
    }
}

pub(super) struct Places {
    all: Arc<Semaphore>,
    strangers: Strangers,
}

/// Given back when it goes.
pub(super) struct Place {
    _one: OwnedSemaphorePermit,
    stranger: Option<Stranger>,
}

struct Stranger {
    address: IpAddr,
    strangers: Strangers,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut strangers = locked(&self.strangers);
        if let Some(count) = strangers.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                strangers.remove(&self.address);
            }
        }
    }
}

impl Places {
    pub fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(ALL)), strangers: Strangers::default() }
    }

    /// A place for who has shown nothing yet.
    pub fn take(&self, address: IpAddr) -> Option<Place> {
        let (one, address) = (self.all.clone().try_acquire_owned().ok()?, network(address));
        let mut strangers = locked(&self.strangers);
        if strangers.values().sum::<usize>() >= ALL_STRANGERS {
            return None;
        }
        let count = strangers.entry(address).or_default();
        if *count >= STRANGERS {
            return None;
        }
        *count += 1;
        drop(strangers);
        let stranger = Stranger { address, strangers: self.strangers.clone() };
        Some(Place { _one: one, stranger: Some(stranger) })
    }
}

/// A connection and its place.
pub(super) struct Seated {
    tls: TlsStream<TcpStream>,
    _place: Place,
}

impl Seated {
    /// Whoever showed a certificate (the handshake takes only ours) is no stranger any more.
    pub fn new(tls: TlsStream<TcpStream>, mut place: Place) -> Self {
        if tls.get_ref().1.peer_certificates().is_some() {
            place.stranger = None;
        }
        Self { tls, _place: place }
    }
}

impl Connected for Seated {
    type ConnectInfo = TlsConnectInfo<TcpConnectInfo>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.tls.connect_info()
    }
}

impl AsyncRead for Seated {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for Seated {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_of_one_address_leave_room_for_others() {
        let (places, crowd, other) = (Places::new(), IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut taken: Vec<_> = (0..STRANGERS).map(|_| places.take(crowd).unwrap()).collect();
        assert!(places.take(crowd).is_none() && places.take(other).is_some());
        taken[0].stranger = None;
        let again = places.take(crowd);
        assert!(again.is_some() && places.take(crowd).is_none());
        drop((taken, again));
        assert!(locked(&places.strangers).is_empty());
        assert_eq!(places.all.available_permits(), ALL);
    }

    #[test]
    fn a_crowd_of_strangers_leaves_the_boxes_places_free() {
        let places = Places::new();
        let v6 = |network: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, host]);
        let mut taken: Vec<_> = (0..STRANGERS as u16).map(|host| places.take(v6(1, host)).unwrap()).collect();
        assert!(places.take(v6(1, 999)).is_none(), "one /64 is one network");
        taken.extend(
            (2..=16)
                .flat_map(|net| (0..STRANGERS as u16).map(move |host| (net, host)))
                .map(|(net, host)| places.take(v6(net, host)).unwrap()),
        );
        assert_eq!(taken.len(), ALL_STRANGERS);
        assert!(places.take(v6(17, 1)).is_none());
        assert_eq!(places.all.available_permits(), ALL - ALL_STRANGERS);
        taken[0].stranger = None;
        assert!(places.take(v6(17, 1)).is_some());
    }
}
