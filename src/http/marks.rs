//! What the requests of a connection say of it, whichever version of HTTP they come in.

use std::sync::Arc;

use axum::http::Extensions;

use super::places::Place;
use super::{Excess, UnderTls};
use crate::tls::{ClientCertificate, PeerIdentity};

/// The extensions that each request gets.
#[derive(Debug)]
pub(super) struct Marks {
    pub(super) excess: bool,
    pub(super) under_tls: bool,
    pub(super) peer: Option<PeerIdentity>,
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    pub(super) place: Option<Place>,
}

impl Marks {
    pub(super) fn put_on(&self, extensions: &mut Extensions) {
        if self.excess {
            extensions.insert(Excess);
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
        if let Some(place) = &self.place {
            extensions.insert(place.clone());
        }
    }
}
