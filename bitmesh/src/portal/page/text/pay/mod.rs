//! What the page says of its own channel, one file a language.

pub(super) mod ar;
pub(super) mod de;
pub(super) mod en;
pub(super) mod es;
pub(super) mod fr;

use super::Text;

/// The words of one language. `{}` is where a value goes.
#[derive(Debug)]
pub(in crate::portal::page) struct PayText {
    pub(in crate::portal::page) title: &'static str,
    pub(in crate::portal::page) how: &'static str,
    pub(in crate::portal::page) caution: &'static str,
    pub(in crate::portal::page) plain: &'static str,
    pub(in crate::portal::page) unkept: &'static str,
    pub(in crate::portal::page) load: &'static str,
    pub(in crate::portal::page) refund_to: &'static str,
    pub(in crate::portal::page) cap: &'static str,
    pub(in crate::portal::page) bid: &'static str,
    pub(in crate::portal::page) bid_go: &'static str,
    pub(in crate::portal::page) bid_accepted: &'static str,
    pub(in crate::portal::page) bid_countered: &'static str,
    pub(in crate::portal::page) bid_declined: &'static str,
    pub(in crate::portal::page) go_on: &'static str,
    pub(in crate::portal::page) code: &'static str,
    pub(in crate::portal::page) code_how: &'static str,
    pub(in crate::portal::page) code_saved: &'static str,
    pub(in crate::portal::page) fund: &'static str,
    pub(in crate::portal::page) fund_how: &'static str,
    pub(in crate::portal::page) fund_early: &'static str,
    pub(in crate::portal::page) fund_until: &'static str,
    pub(in crate::portal::page) fund_open: &'static str,
    pub(in crate::portal::page) relay_how: &'static str,
    pub(in crate::portal::page) relay: &'static str,
    pub(in crate::portal::page) waiting: &'static str,
    pub(in crate::portal::page) unconfirmed: &'static str,
    pub(in crate::portal::page) paying: &'static str,
    pub(in crate::portal::page) spent: &'static str,
    pub(in crate::portal::page) ended: &'static str,
    pub(in crate::portal::page) elsewhere: &'static str,
    pub(in crate::portal::page) elsewhere_go: &'static str,
    pub(in crate::portal::page) raise: &'static str,
    pub(in crate::portal::page) raise_go: &'static str,
    pub(in crate::portal::page) close: &'static str,
    pub(in crate::portal::page) closed: &'static str,
    pub(in crate::portal::page) receipt: &'static str,
    pub(in crate::portal::page) receipt_save: &'static str,
    pub(in crate::portal::page) no_receipt: &'static str,
    pub(in crate::portal::page) again: &'static str,
    pub(in crate::portal::page) refunds: &'static str,
    pub(in crate::portal::page) refunds_how: &'static str,
    pub(in crate::portal::page) resume: &'static str,
    pub(in crate::portal::page) resume_go: &'static str,
    pub(in crate::portal::page) wrong_address: &'static str,
    pub(in crate::portal::page) wrong_code: &'static str,
    pub(in crate::portal::page) dishonest: &'static str,
}

/// Words that the page's script puts in, by their names there.
pub(in crate::portal::page) fn for_script(text: &Text) -> [(&'static str, &'static str); 24] {
    let pay = &text.pay;
    [
        ("bid_accepted", pay.bid_accepted),
        ("bid_countered", pay.bid_countered),
        ("bid_declined", pay.bid_declined),
        ("code", pay.code),
        ("fund", pay.fund),
        ("fund_early", pay.fund_early),
        ("fund_until", pay.fund_until),
        ("waiting", pay.waiting),
        ("unconfirmed", pay.unconfirmed),
        ("paying", pay.paying),
        ("spent", pay.spent),
        ("ended", pay.ended),
        ("elsewhere", pay.elsewhere),
        ("closed", pay.closed),
        ("wrong_address", pay.wrong_address),
        ("wrong_code", pay.wrong_code),
        ("dishonest", pay.dishonest),
        ("per", text.per),
        ("mib", text.mib),
        ("mib_up", text.mib_up),
        ("mib_down", text.mib_down),
        ("minute", text.minute),
        ("free", text.free),
        ("plus", text.plus),
    ]
}
