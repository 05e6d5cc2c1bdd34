//! What the requests of a connection say of it, whichever version of HTTP they come in.

use std::sync::Arc;

use axum::http::Extensions;

use super::newcomers::{AtWork, Newcomer};
use super::places::Place;
use super::{Excess, UnderTls};
use crate::tls::{ClientCertificate, PeerIdentity};

/// How a connection stands at its port.
#[derive(Debug)]
pub(super) enum Guest {
    /// There is no place for it.
    Excess,
    /// It has a place for as long as others need none, or for good.
    Newcomer(Newcomer),
    /// It has a place of a port that knows members from strangers.
    Place(Place),
}

/// The extensions that each request gets.
#[derive(Debug)]
pub(super) struct Marks {
    pub(super) guest: Guest,
    pub(super) under_tls: bool,
    pub(super) peer: Option<PeerIdentity>,
    pub(super) certificate: Option<Arc<ClientCertificate>>,
}

impl Marks {
    pub(super) fn is_excess(&self) -> bool {
        matches!(self.guest, Guest::Excess)
    }

    /// Marks a request. The guard, where there is one, is to be dropped once the request has its answer.
    pub(super) fn put_on(&self, extensions: &mut Extensions) -> Option<AtWork> {
        let mut at_work = None;
        match &self.guest {
            Guest::Excess => drop(extensions.insert(Excess)),
            Guest::Newcomer(newcomer) if newcomer.is_new() => {
                at_work = Some(newcomer.asks());
                extensions.insert(newcomer.clone());
            }
            Guest::Newcomer(_) => {}
            Guest::Place(place) => drop(extensions.insert(place.clone())),
        }
        if self.under_tls {
            extensions.insert(UnderTls);
        }
        if let Some(peer) = self.peer {
            extensions.insert(peer);
        }
        if let Some(certificate) = &self.certificate {
            extensions.insert(certificate.clone());
        }
        at_work
    }
}
