//! The page's HTML. Every value goes through the escaping of `maud`.

use axum::http::StatusCode;
use bitmesh_core::Mac;
use maud::{DOCTYPE, Markup, html};

use super::assets::{ICON, SCRIPT, STYLE};
use super::fields::{fields, label, sentence, word};
use super::numbers::prices;
use super::text::{ALL, Text};
use super::ways::ways;
use super::{address, live};
use crate::portal::visit::Visit;

/// What became of the form that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// None was.
    None,
    /// Its token was not good.
    TooOld,
    /// The gateway refused.
    NotStopped,
}

impl Notice {
    /// The status of a page with it.
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::None => StatusCode::OK,
            Self::TooOld => StatusCode::FORBIDDEN,
            Self::NotStopped => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    const fn said(self, text: &Text) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::TooOld => Some(text.too_old),
            Self::NotStopped => Some(text.not_stopped),
        }
    }
}

/// What goes into the page.
pub(super) struct Frame<'a> {
    pub(super) text: &'static Text,
    pub(super) visit: &'a Visit,
    pub(super) mac: Mac,
    /// The token of its form.
    pub(super) pass: &'a str,
    pub(super) notice: Notice,
    /// Whether it came over TLS.
    pub(super) secure: bool,
    /// Where a program reaches the portal.
    pub(super) gateway: String,
}

impl Frame<'_> {
    pub(super) fn render(&self) -> Markup {
        let Self { text, visit, .. } = self;
        html! {
            (DOCTYPE)
            html lang=(text.tag) dir=(text.direction) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (text.title) }
                    link rel="icon" href=(ICON.path) type="image/svg+xml";
                    link rel="stylesheet" href=(STYLE.path);
                    script type="module" src=(SCRIPT.path) {}
                }
                body data-state=(word(visit)) data-live=(live::address(text)) {
                    header {
                        h1 { (text.title) }
                        p #price { bdi { (prices(text, &visit.tariff())) } }
                    }
                    main {
                        (self.session())
                        (self.ways())
                    }
                    (self.languages())
                }
            }
        }
    }

    fn session(&self) -> Markup {
        let Self { text, visit, .. } = self;
        html! {
            section aria-labelledby="session" {
                h2 #session { (text.session) }
                @if let Some(notice) = self.notice.said(text) {
                    p .notice role="alert" { (notice) }
                }
                p #state role="status" aria-live="polite" { (sentence(text, visit)) }
                p #lost .notice hidden { (text.lost) }
                dl {
                    @for field in fields(text, visit, None) {
                        div {
                            dt { (label(text, field.id)) }
                            dd { bdi { data id=(field.id) value=(field.value) { (field.said) } } }
                        }
                    }
                }
                figure #graph hidden {
                    svg viewBox="0 0 300 60" preserveAspectRatio="none" role="img"
                        aria-label=(text.graph) {
                        polyline .down points="" {}
                        polyline .up points="" {}
                    }
                    figcaption { (text.graph) }
                }
                (self.stop())
                noscript {
                    p { (text.reload_hint) " " a #reload href=(address(text)) { (text.reload) } }
                }
            }
        }
    }

    fn stop(&self) -> Markup {
        let text = self.text;
        html! {
            form #stop method="post" action="/stop" hidden[self.visit.open().is_none()] {
                input type="hidden" name="pass" value=(self.pass);
                input type="hidden" name="lang" value=(text.tag);
                button type="submit" aria-describedby="stop-hint" { (text.stop) }
                p #stop-hint { (text.stop_hint) }
            }
        }
    }

    fn ways(&self) -> Markup {
        let text = self.text;
        html! {
            section aria-labelledby="ways" {
                h2 #ways { (text.ways) }
                @for way in ways(text, self.visit, self.mac, self.secure, &self.gateway) {
                    article id=(way.id) {
                        h3 { (way.title) }
                        (way.body)
                    }
                }
            }
        }
    }

    fn languages(&self) -> Markup {
        html! {
            nav aria-label=(self.text.languages) {
                ul {
                    @for other in ALL {
                        li {
                            a href=(address(other)) lang=(other.tag) hreflang=(other.tag)
                                aria-current=[(other.tag == self.text.tag).then_some("true")] {
                                (other.name)
                            }
                        }
                    }
                }
            }
        }
    }
}
