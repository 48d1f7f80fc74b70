//! Who asks.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::http::{Method, Request};
use axum::response::{IntoResponse as _, Response};
use bitmesh_core::Mac;
use tokio::sync::mpsc;

use super::ask::{Asked, Question, Told, ask};
use super::foreign::{lead_to, was_led_here};
use super::host::Own;
use super::pass::Passes;
use super::places::Places;
use super::problem::Problem;
use super::rate::Rates;
use super::{MAX_CONNECTIONS, MAX_PAGES_PER_STATION};

/// What all connections share.
#[derive(Debug)]
pub(super) struct Hall {
    pub(super) asked: mpsc::Sender<Asked>,
    pub(super) rates: Rates,
    /// Pages that are kept fresh.
    pub(super) pages: Places,
    pub(super) passes: Passes,
    /// A page about the place, if there is one.
    pub(super) venue: Option<String>,
}

impl Hall {
    /// An empty one.
    pub(super) fn new(
        asked: mpsc::Sender<Asked>,
        venue: Option<String>,
    ) -> rustix::io::Result<Self> {
        Ok(Self {
            asked,
            rates: Rates::default(),
            pages: Places::new(MAX_CONNECTIONS, MAX_PAGES_PER_STATION),
            passes: Passes::new()?,
            venue,
        })
    }
}

/// The station at the other end of a connection, and the interface that it came by.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) mac: Option<Mac>,
    pub(super) hall: Arc<Hall>,
    pub(super) own: Arc<Mutex<Own>>,
    /// Which of our addresses it came to.
    pub(super) local: IpAddr,
}

impl Caller {
    /// Whether a request is let in at all; if not, its answer.
    pub(super) fn admit<B>(&self, request: &Request<B>) -> Result<(), Box<Response>> {
        let refused = |problem: Problem| Box::new(problem.into_response());
        let mac = self.mac().map_err(refused)?;
        self.hall.rates.take(mac).map_err(|_| refused(Problem::too_fast()))?;
        let (uri, headers) = (request.uri(), request.headers());
        if self.own(|own| own.is_meant(uri, headers)) {
            return Ok(());
        }
        if !self.is_secure() && was_led_here(uri, headers) {
            return Err(Box::new(lead_to(&self.page_url("/"), request.method())));
        }
        Err(refused(Problem::wrong_host()))
    }

    /// The address of a page of ours, as this visitor can open it.
    pub(super) fn page_url(&self, path: &str) -> String {
        self.own(|own| own.url(self.local, path))
    }

    /// The address of a page of ours for a program, which need not speak TLS.
    pub(super) fn plain_url(&self, path: &str) -> String {
        self.own(|own| own.plain_url(self.local, path))
    }

    /// Whether this came over TLS.
    pub(super) fn is_secure(&self) -> bool {
        self.own(|own| own.secure)
    }

    /// Leads a browser to the page over TLS, if there is one and it did not come by it.
    pub(super) fn lead_to_tls(&self, method: &Method) -> Option<Response> {
        let elsewhere = self.own(|own| own.tls_port.is_some() && !own.secure);
        elsewhere.then(|| lead_to(&self.page_url("/"), method))
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
