//! The ways to pay. The page's frame shows each of this list and knows none of them.

use bitmesh_core::Mac;
use maud::{Markup, html};

use super::channel::channel;
use super::text::Text;
use crate::portal::visit::Visit;

/// One way to pay.
pub(super) struct Way {
    /// Its element in the page.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) body: Markup,
}

/// What a visitor can pay with here, the most useful first.
pub(super) fn ways(text: &Text, visit: &Visit, mac: Mac, secure: bool, gateway: &str) -> Vec<Way> {
    let page = visit.sells_channels.map(|network| channel(text, visit, network, mac, secure));
    let program = visit.sells_channels.map(|_| connect(text, visit, gateway));
    page.into_iter().chain(program).chain([operator(text, mac)]).collect()
}

/// By a payment channel, from the command line.
fn connect(text: &Text, visit: &Visit, gateway: &str) -> Way {
    let price = &visit.price;
    let mib = price.uplink_msat_per_mib.max(price.downlink_msat_per_mib);
    let command = format!(
        "sudo bitmesh connect --gateway {gateway} --max-msat-per-mib {mib} \
         --max-msat-per-minute {} --budget-sat 50000 --change-to ADDRESS",
        price.msat_per_minute,
    );
    let body = html! {
        p { (text.connect_how) }
        // Some need the keyboard to scroll it.
        pre dir="ltr" tabindex="0" role="region" aria-label=(text.connect) {
            code #command { (command) }
        }
        p { (text.connect_back) }
    };
    Way { id: "way-connect", title: text.connect, body }
}

/// At the counter.
fn operator(text: &Text, mac: Mac) -> Way {
    let address = mac.octets.map(|octet| format!("{octet:02x}")).join(":");
    let body = html! {
        p { (text.operator_how) " " bdi { code #mac { (address) } } }
    };
    Way { id: "way-operator", title: text.operator, body }
}
