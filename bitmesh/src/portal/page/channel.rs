//! Paying by a channel from the page itself. It takes a script, `pay.js`, whose sources are in
//! `bitmesh/portal`; without it this way is not shown.

use bitcoin::Network;
use bitmesh_core::Mac;
use maud::{Markup, html};

use super::text::Text;
use super::text::pay::{PayText, for_script};
use super::ways::Way;
use crate::mac::MacText;
use crate::portal::visit::Visit;

/// What is put in at most, unless the visitor says another amount, in satoshi.
const USUAL_SAT: u64 = 20_000;

/// The percentage that the slider stands at.
const USUAL_BID: u32 = 80;

/// Any wallet funds it. A page that came without TLS says what that means.
pub(super) fn channel(text: &Text, visit: &Visit, network: Network, mac: Mac, secure: bool) -> Way {
    let pay = &text.pay;
    let words: serde_json::Map<String, serde_json::Value> =
        for_script(text).into_iter().map(|(key, word)| (key.to_owned(), word.into())).collect();
    let words = serde_json::Value::Object(words).to_string();
    let body = html! {
        p { (pay.how) }
        p #pay-caution { (pay.caution) @if !secure { " " (pay.plain) } }
        button #pay-load type="button" hidden { (pay.load) }
        div #way-page hidden data-network=(network) data-mac=(MacText(mac)) data-words=(words) {
            p #pay-error .notice role="alert" hidden {}
            p #pay-unkept .notice hidden { (pay.unkept) }
            p #pay-lost .notice hidden { (text.lost) }
            (start(pay, visit.bargains))
            (code(pay))
            (fund(pay))
            (run(pay))
            (keep(pay))
            (resume(pay))
        }
    };
    Way { id: "way-channel", title: pay.title, body }
}

/// The price, where the rest goes, how much.
fn start(pay: &PayText, bargains: bool) -> Markup {
    html! {
        form #pay-start {
            div hidden[!bargains] {
                label for="bid" { (pay.bid) " " output #bid-percent for="bid" { (USUAL_BID) " %" } }
                input #bid type="range" min="1" max="100" value=(USUAL_BID);
                button #bid-go type="button" { (pay.bid_go) }
                p #bid-said role="status" {}
            }
            label for="refund-to" { (pay.refund_to) }
            input #refund-to dir="ltr" required autocomplete="off" spellcheck="false" autocapitalize="none";
            label for="cap" { (pay.cap) }
            input #cap type="number" min="1" required value=(USUAL_SAT);
            button type="submit" { (pay.go_on) }
        }
    }
}

fn code(pay: &PayText) -> Markup {
    html! {
        div #pay-code hidden {
            h4 { (pay.code) }
            p { (pay.code_how) }
            p { code #code dir="ltr" {} }
            div #code-qr {}
            button #code-saved type="button" { (pay.code_saved) }
        }
    }
}

fn fund(pay: &PayText) -> Markup {
    html! {
        div #pay-fund hidden {
            h4 { (pay.fund) }
            p { (pay.fund_how) }
            p { bdi #fund-amount {} }
            p { code #fund-address dir="ltr" {} }
            div #fund-qr {}
            p #fund-early hidden {}
            p #fund-until {}
            p { a #fund-uri href="/" { (pay.fund_open) } }
            details {
                summary { (pay.relay_how) }
                textarea #raw-tx aria-label=(pay.relay_how) dir="ltr" rows="4" spellcheck="false" {}
                button #relay type="button" { (pay.relay) }
            }
        }
    }
}

/// From the first confirmation to the close.
fn run(pay: &PayText) -> Markup {
    html! {
        p #pay-status role="status" aria-live="polite" hidden {}
        div #pay-run hidden {
            div #pay-open {
                div #pay-elsewhere .notice hidden {
                    p #pay-elsewhere-said role="status" {}
                    p { button #move type="button" { (pay.elsewhere_go) } }
                }
                form #raise {
                    label for="raise-by" { (pay.raise) }
                    input #raise-by type="number" min="1" required value="5000";
                    button type="submit" { (pay.raise_go) }
                }
                p { button #close type="button" { (pay.close) } }
            }
            div #pay-closed hidden {
                p #closed-said role="status" {}
                p { code #close-txid dir="ltr" {} }
                (receipt(pay))
            }
            p { button #again type="button" hidden { (pay.again) } }
            details {
                summary { (pay.refunds) }
                p { (pay.refunds_how) " " bdi #refund-from {} }
                ul #refunds {}
            }
        }
    }
}

/// A file to save, and its text to copy.
fn receipt(pay: &PayText) -> Markup {
    html! {
        div #receipt hidden {
            p { a #receipt-save href="/" { (pay.receipt_save) } }
            details {
                summary { (pay.receipt) }
                textarea #receipt-text aria-label=(pay.receipt) dir="ltr" rows="8" readonly {}
            }
        }
        p #no-receipt hidden { (pay.no_receipt) }
    }
}

fn keep(pay: &PayText) -> Markup {
    html! {
        div #pay-keep hidden {
            details {
                summary { (pay.code) }
                p { code #code-again dir="ltr" {} }
            }
        }
    }
}

fn resume(pay: &PayText) -> Markup {
    html! {
        form #resume {
            details {
                summary { (pay.resume) }
                label for="resume-code" { (pay.code) }
                input #resume-code dir="ltr" required autocomplete="off" spellcheck="false" autocapitalize="none";
                button type="submit" { (pay.resume_go) }
            }
        }
    }
}
