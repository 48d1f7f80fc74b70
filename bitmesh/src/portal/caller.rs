//! Who asks.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::Request;
use bitmesh_core::Mac;
use tokio::sync::mpsc;

use super::ask::{Asked, Question, Told, ask};
use super::host::Own;
use super::problem::Problem;
use super::rate::Rates;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Hall {
    pub(super) asked: mpsc::Sender<Asked>,
    pub(super) rates: Rates,
}

/// The station at the other end of a connection, and the interface that it came by.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) mac: Option<Mac>,
    pub(super) hall: Arc<Hall>,
    pub(super) own: Arc<Mutex<Own>>,
}

impl Caller {
    /// Whether a request is let in at all.
    pub(super) fn admit<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        let mac = self.mac()?;
        self.hall.rates.take(mac).map_err(|_| Problem::too_fast())?;
        if self.own(|own| own.is_meant(request.uri(), request.headers())) {
            Ok(())
        } else {
            Err(Problem::wrong_host())
        }
    }

    /// Whether a stream that a page asks for is let in.
    pub(super) fn admit_origin(&self, request: &Request<Body>) -> Result<(), Problem> {
        if self.own(|own| own.is_origin(request.headers())) {
            Ok(())
        } else {
            Err(Problem::foreign_origin())
        }
    }

    pub(super) fn mac(&self) -> Result<Mac, Problem> {
        self.mac.ok_or_else(Problem::no_station)
    }

    pub(super) async fn ask(&self, question: Question) -> Result<Told, Problem> {
        ask(&self.hall.asked, question).await
    }

    fn own<T>(&self, look: impl FnOnce(&Own) -> T) -> T {
        look(&self.own.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
