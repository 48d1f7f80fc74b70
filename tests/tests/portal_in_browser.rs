//! A visitor with a browser and nothing else, against the real gateway, a real node and real
//! traffic: from joining to the close. Pictures of each step are left in `target/browser/pictures`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bitcoin::{Address, Amount, Network};
use bitmesh_tests::browser::{Browser, Page};
use bitmesh_tests::lab::{ETH, SERVER_V4};
use bitmesh_tests::payments::{HOST, Market, paid, raw};
use bitmesh_tests::tcp::{Ends, Load, Stream};
use bitmesh_tests::wait::until;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const POLICY: &str = "[bargaining]\nfloor_percent = 60\nstep_percent = 10\nrounds = 4\n";
/// 85 % of the list.
const AGREED_MSAT_PER_MIB: u64 = 870_400;
const CAP_SAT: u64 = 3_000;
const RAISE_SAT: u64 = 2_000;
const CAPACITY_SAT: u64 = 60_000;

/// Goes on until it is cut off, slowly enough for a page to pay for it.
const ENDLESS: Load = Load { bytes: None, pause: Duration::from_millis(20) };

fn download(market: &Market, load: Load) -> Result<Stream> {
    let (client, server) = (&market.lab.subscriber().namespace, &market.lab.internet);
    Stream::download(Ends { client, server, address: SERVER_V4 }, load)
}

/// From the page to the channel's address. Gives the resume code, where the rest goes, and the address.
fn start(market: &Market, page: &mut Page, cap_sat: u64) -> Result<(String, Address, Address)> {
    let back = Address::from_script(market.script()?.as_script(), Network::Regtest)?;
    page.fill("#refund-to", &back.to_string())?;
    page.fill("#cap", &cap_sat.to_string())?;
    page.click("#pay-start button[type=submit]")?;
    page.see("#code-qr svg")?;
    let code = page.text("#code")?;
    page.pictures("code")?;
    page.click("#code-saved")?;
    page.see("#fund-qr svg")?;
    let height = market.node(bitmesh_tests::regtest::Regtest::height)?.to_string();
    page.until(&format!("document.getElementById('fund-until').textContent.includes('{height}')"))?;
    page.pictures("funding")?;
    let address: Address<_> = page.text("#fund-address")?.parse()?;
    let address = address.require_network(Network::Regtest)?;
    let uri = page.value("document.getElementById('fund-uri').href")?;
    ensure!(uri.as_str().is_some_and(|uri| uri.starts_with(&format!("bitcoin:{address}?amount="))));
    Ok((code, back, address))
}

/// Has the gateway send a payment to this address.
fn relay(market: &Market, page: &mut Page, address: &Address) -> Result<()> {
    let tx = market.signed_payment(address, Amount::from_sat(CAPACITY_SAT))?;
    page.click("#pay-fund summary")?;
    page.fill("#raw-tx", &bitcoin::consensus::encode::serialize_hex(&tx))?;
    page.click("#relay")?;
    market.node_holds(1)?;
    page.see("#pay-run")
}

/// From the page to a channel that is open, funded by the gateway's relay. Gives the resume code
/// and where the rest goes.
fn fund(market: &Market, page: &mut Page, cap_sat: u64) -> Result<(String, Address)> {
    let (code, back, address) = start(market, page, cap_sat)?;
    relay(market, page, &address)?;
    page.until("document.getElementById('pay-status').dataset.state === 'unconfirmed'")?;
    page.pictures("unconfirmed")?;
    market.mine(1)?;
    page.until("document.body.dataset.state === 'open'")?;
    Ok((code, back))
}

/// A number of the page, as machines read it.
fn number(page: &mut Page, id: &str) -> Result<u64> {
    let value = page.value(&format!("document.getElementById('{id}').value"))?;
    let value = value.as_str().context("no number")?;
    value.parse().with_context(|| format!("{id} is {value:?}"))
}

/// Waits until the page says what `bitmesh accounts --json` says.
fn numbers_agree(market: &Market, page: &mut Page) -> Result<()> {
    let mut last = Value::Null;
    let waited = until("the page shows the operator's numbers", || {
        let account = market.agent.account(market.lab.subscriber())?;
        let shown = [number(page, "down")?, number(page, "up")?, number(page, "left")?];
        let said =
            ["downlink_bytes", "uplink_bytes", "balance_msat"].map(|name| account[name].clone());
        last = json!({"page": shown, "accounts": said});
        Ok(json!(shown) == json!(said) && shown[0] > 0)
    });
    waited.with_context(|| last.to_string())
}

/// Whether the gateway tells the visitor's device that it is captive (RFC 8908).
fn is_captive(market: &Market) -> Result<bool> {
    let ask = format!("GET /captive HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let said = raw(market.lab.subscriber(), ask.as_bytes())?;
    let (_, body) = said.split_once("\r\n\r\n").context("no body")?;
    serde_json::from_str::<Value>(body)?["captive"].as_bool().context("no captive state")
}

/// Saves the page's receipt, has `bitmesh receipt verify` check it, and gives what it says.
fn verified(market: &Market, page: &mut Page) -> Result<Value> {
    let (name, text) = page.save("#receipt-save")?;
    let file = market.agent.house.folder().join(&name);
    std::fs::write(&file, &text)?;
    let receipt = market.agent.ask(&["receipt", "verify", &file.to_string_lossy()])?;
    let channel = receipt["agreement"].as_str().context("no channel")?;
    ensure!(name == format!("receipt-{channel}.json"), "the file is called {name}");
    let copy = market.agent.house.folder().join("copy.json");
    let save = ["receipt", "save", channel, &copy.to_string_lossy()];
    ensure!(market.agent.command(&save)?.status.success(), "the gateway has no receipt");
    let theirs: Value = serde_json::from_slice(&std::fs::read(copy)?)?;
    ensure!(theirs == serde_json::from_str::<Value>(&text)?, "the gateway has another receipt");
    Ok(receipt)
}

#[test]
fn a_visitor_bargains_pays_runs_out_tops_up_and_gets_the_rest_back() -> Result<()> {
    let market = Market::with_tables(1, POLICY)?;
    let bob = market.lab.subscriber();
    let mut browser = Browser::start(bob, "visitor")?;
    let mut page = browser.open("bob", &json!({"locale": "en-US"}))?;
    let led_to = page.goto(&format!("http://{SERVER_V4}/generate_204"))?;
    ensure!(led_to == format!("http://{HOST}/"), "the probe was led to {led_to}");
    ensure!(is_captive(&market)?, "online before anything was paid");
    page.pictures("joined")?;

    page.click("#pay-load")?;
    page.see("#bid-go")?;
    let bid = |page: &mut Page, percent: u32, verdict: &str| {
        page.fill("#bid", &percent.to_string())?;
        page.click("#bid-go")?;
        page.until(&format!("document.getElementById('bid-said').dataset.verdict === '{verdict}'"))
    };
    bid(&mut page, 50, "countered")?;
    let said = page.text("#bid-said")?;
    ensure!(said.contains("921.6 sat"), "{said}");
    page.pictures("countered")?;
    bid(&mut page, 85, "accepted")?;
    let (code, back) = fund(&market, &mut page, CAP_SAT)?;
    let account = market.agent.pins()?.account(bob)?;
    ensure!(account.downlink_msat_per_mib == AGREED_MSAT_PER_MIB, "another tariff than agreed");
    ensure!(!is_captive(&market)?, "captive although it paid");

    ensure!(download(&market, Load::of(1 << 20))?.finish()? == 1 << 20, "the download ended early");
    numbers_agree(&market, &mut page)?;
    page.pictures("online")?;
    page.reload()?;
    page.until("document.getElementById('pay-status').dataset.state === 'open'")?;
    ensure!(page.text("#code-again")? == code, "the reload forgot the code");

    let stream = download(&market, ENDLESS)?;
    page.until("document.getElementById('pay-status').dataset.state === 'spent'")?;
    page.until("document.body.dataset.state === 'exhausted'")?;
    let credited = market.agent.account(bob)?["credited_msat"].clone();
    ensure!(credited == CAP_SAT * 1_000, "{credited} msat paid of {CAP_SAT} sat");
    let stalled_at = stream.received();
    ensure!(is_captive(&market)?, "online without money");
    page.pictures("used-up")?;
    ensure!(stream.received() == stalled_at, "it goes on without money");
    page.fill("#raise-by", &RAISE_SAT.to_string())?;
    page.click("#raise button")?;
    until("the download goes on", || Ok(stream.received() > stalled_at))?;
    page.until("document.getElementById('pay-status').dataset.state === 'spent'")?;
    stream.abort();
    numbers_agree(&market, &mut page)?;

    let row = market.agent.ask(&["channels"])?["channels"][0].clone();
    let outpoint = row["outpoint"].as_str().context("no outpoint")?.parse()?;
    page.click("#close")?;
    page.see("#closed-said")?;
    ensure!(is_captive(&market)?, "online after the close");
    page.pictures("closed")?;
    let closing = page.text("#close-txid")?;
    let tx = bitmesh_tests::payments::spender(&market.next_block()?, outpoint)?;
    ensure!(tx.compute_txid().to_string() == closing, "the page names another close");
    let charged = market.agent.pins()?.meter(bob)?.spent.div_ceil(1 << 20).div_ceil(1_000);
    let (payout, rest) =
        (paid(&tx, &market.payout.script_pubkey()), paid(&tx, &back.script_pubkey()));
    ensure!(payout == charged && payout <= CAP_SAT + RAISE_SAT, "{payout} sat for {charged}");
    let out: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
    ensure!(payout + rest == out && rest > CAPACITY_SAT - CAP_SAT - RAISE_SAT - 1_000, "{tx:?}");
    let receipt = verified(&market, &mut page)?;
    ensure!(receipt["close_txid"] == closing.as_str(), "{receipt}");
    ensure!(receipt["settled_sat"] == payout && receipt["returned_sat"] == rest, "{receipt}");
    page.reload()?;
    page.see("#receipt-save")?;
    Ok(())
}

#[test]
fn a_code_goes_on_in_another_profile_and_two_pages_pay_nothing_twice() -> Result<()> {
    let mut market = Market::with_subscribers(1)?;
    let mut browser = Browser::start(market.lab.subscriber(), "resume")?;
    let here = format!("http://{HOST}/");
    let mut page = browser.open("first", &json!({"locale": "de-DE"}))?;
    page.goto(&here)?;
    page.click("#pay-load")?;
    page.see("#refund-to")?;
    let (code, _) = fund(&market, &mut page, CAP_SAT)?;
    let mut tab = browser.tab("second", "first")?;
    tab.goto(&here)?;
    tab.see("#pay-run")?;
    let mut other = browser.open("fresh", &json!({"locale": "ar"}))?;
    other.goto(&here)?;
    other.click("#pay-load")?;
    other.click("#resume summary")?;
    other.fill("#resume-code", &format!("{}q", &code[..code.len() - 1]))?;
    other.click("#resume button")?;
    other.see("#pay-error")?;
    other.fill("#resume-code", &code)?;
    other.click("#resume button")?;
    other.see("#pay-run")?;
    other.until("document.getElementById('pay-status').dataset.state !== undefined")?;
    other.pictures("resumed")?;
    let stream = download(&market, ENDLESS)?;
    // The gateway starts again under the open pages.
    until("the download runs", || Ok(stream.received() > 1 << 20))?;
    market.agent.end(Signal::SIGKILL)?;
    market.agent.launch(&market.lab.gateway)?;
    let spent = "document.getElementById('pay-status').dataset.state === 'spent'";
    browser.page("first").until(spent)?;
    stream.abort();
    let account = market.agent.account(market.lab.subscriber())?;
    ensure!(account["credited_msat"] == CAP_SAT * 1_000, "three pages, one limit: {account}");
    numbers_agree(&market, &mut browser.page("first"))?;
    let mut other = browser.page("fresh");
    other.click("#close")?;
    other.see("#closed-said")
}

#[test]
fn a_page_says_what_counts_before_a_block_and_is_online_with_that() -> Result<()> {
    let market = Market::with_tables(1, "unconfirmed_sat = 3000\nunconfirmed_total_sat = 5000\n")?;
    let mut browser = Browser::start(market.lab.subscriber(), "early")?;
    let mut page = browser.open("bob", &json!({"locale": "en-US"}))?;
    page.goto(&format!("http://{HOST}/"))?;
    page.click("#pay-load")?;
    page.see("#refund-to")?;
    let address = start(&market, &mut page, CAP_SAT)?.2;
    let said = page.text("#fund-early")?;
    ensure!(said.contains("Up to 3,000 sat of it count at once"), "{said}");
    page.pictures("early")?;
    relay(&market, &mut page, &address)?;
    page.until("document.body.dataset.state === 'open'")?;
    market.node_holds(1)?;
    ensure!(download(&market, Load::of(1 << 20))?.finish()? == 1 << 20, "the download ended early");
    Ok(())
}

/// As phones do that give themselves a new address each time they join.
const LATER_MAC: &str = "02:00:00:00:78:0a";
const LATER_V4: &str = "10.77.0.90";

#[test]
fn a_visitor_who_is_back_under_another_address_brings_its_balance_along() -> Result<()> {
    let market = Market::with_subscribers(1)?;
    let bob = market.lab.subscriber();
    let mut browser = Browser::start(bob, "back")?;
    let mut page = browser.open("bob", &json!({"locale": "en-US"}))?;
    page.goto(&format!("http://{HOST}/"))?;
    page.click("#pay-load")?;
    page.see("#refund-to")?;
    fund(&market, &mut page, CAP_SAT)?;
    ensure!(download(&market, Load::of(1 << 20))?.finish()? == 1 << 20, "the download ended early");
    numbers_agree(&market, &mut page)?;
    ensure!(page.value("document.getElementById('pay-elsewhere').hidden")? == true, "it is here");

    // Who joins under another address gets another lease, too.
    bob.namespace.ip(&format!("addr flush dev {ETH}"))?;
    bob.namespace.ip(&format!("link set {ETH} address {LATER_MAC}"))?;
    bob.namespace.ip(&format!("addr add {LATER_V4}/24 dev {ETH}"))?;
    bob.namespace.ip("route replace default via 10.77.0.1")?;
    page.goto(&format!("http://{HOST}/"))?;
    page.see("#pay-elsewhere")?;
    let said = page.text("#pay-elsewhere-said")?;
    ensure!(said.contains(&bob.mac_text()) && said.contains(LATER_MAC), "{said}");
    ensure!(is_captive(&market)?, "the new address is online without money");
    page.pictures("elsewhere")?;
    page.click("#move")?;
    page.until("document.getElementById('pay-elsewhere').hidden")?;
    page.until("document.body.dataset.state === 'open'")?;
    ensure!(download(&market, Load::of(1 << 20))?.finish()? == 1 << 20, "it ended early there");
    let accounts = market.agent.ask(&["accounts"])?["accounts"].clone();
    let account = |mac: &str| {
        let all = accounts.as_array().into_iter().flatten();
        all.into_iter().find(|row| row["mac"] == mac).cloned().context("no such account")
    };
    let (old, new) = (account(&bob.mac_text())?, account(LATER_MAC)?);
    ensure!(old["state"] == "closed" && old["balance_msat"] == 0, "{old}");
    ensure!(new["state"] == "open" && new["downlink_bytes"].as_u64() > Some(1 << 20), "{new}");
    page.click("#close")?;
    page.see("#closed-said")?;
    let receipt = verified(&market, &mut page)?;
    ensure!(receipt["downlink_bytes"].as_u64() > Some(2 << 20), "one channel, both: {receipt}");
    Ok(())
}

#[test]
fn a_refund_that_was_saved_from_the_page_is_mined_with_the_gateway_gone() -> Result<()> {
    let mut market = Market::with_subscribers(1)?;
    let mut browser = Browser::start(market.lab.subscriber(), "refund")?;
    let mut page = browser.open("bob", &json!({"locale": "fr-FR"}))?;
    page.goto(&format!("http://{HOST}/"))?;
    page.click("#pay-load")?;
    page.see("#refund-to")?;
    let (_, back) = fund(&market, &mut page, CAP_SAT)?;
    page.click("#pay-run details:has(#refunds) summary")?;
    page.see("#refunds li svg")?;
    page.pictures("refunds")?;
    let raw = page.text("#refunds li:nth-child(2) code")?;
    let from: u32 = page.text("#refund-from")?.parse()?;
    market.agent.end(Signal::SIGKILL)?;
    let height = market.node(bitmesh_tests::regtest::Regtest::height)?;
    market.node(|node| node.mine(from - height - 2))?;
    let early = market.node(|node| node.call("sendrawtransaction", &json!([raw])));
    ensure!(early.is_err(), "it was taken a block too early");
    market.node(|node| node.mine(1))?;
    market.node(|node| node.call("sendrawtransaction", &json!([raw])))?;
    market.node(|node| node.mine(1))?;
    let tx: bitcoin::Transaction = bitcoin::consensus::encode::deserialize_hex(&raw)?;
    ensure!(paid(&tx, &back.script_pubkey()) > CAPACITY_SAT - 1_000, "{tx:?}");
    let found = market.node(|node| node.call("gettxout", &json!([tx.compute_txid(), 0])))?;
    ensure!(found["confirmations"] == 1, "{found}");
    Ok(())
}

#[test]
fn without_javascript_the_page_says_price_and_status_and_stops() -> Result<()> {
    let market = Market::with_subscribers(1)?;
    let bob = market.lab.subscriber();
    let mut browser = Browser::start(bob, "plain")?;
    let mut page = browser.open("bob", &json!({"locale": "es", "javaScriptEnabled": false}))?;
    page.goto(&format!("http://{HOST}/"))?;
    let price = page.text("#price")?;
    ensure!(price.contains("024 sat por MiB"), "{price}");
    let offline = page.text("#state")?;
    market.agent.grant(bob, 5_000_000)?;
    page.click("#reload")?;
    let online = page.text("#state")?;
    ensure!(online != offline, "{online}");
    page.plain_pictures("online")?;
    page.click("#stop button")?;
    page.see("#state")?;
    let stopped = page.text("#state")?;
    ensure!(stopped != online && stopped != offline, "{stopped}");
    ensure!(market.agent.account(bob)?["state"] == "closed", "the gate is open");
    Ok(())
}

/// A phone's pop-up window, where nothing can be kept.
const KEEPS_NOTHING: &str = "Object.defineProperty(window, 'localStorage', \
                             { get() { throw new DOMException('no', 'SecurityError'); } })";

#[test]
fn a_browser_that_keeps_nothing_says_so_and_the_code_goes_on_in_one_that_does() -> Result<()> {
    let market = Market::with_subscribers(1)?;
    let mut browser = Browser::start(market.lab.subscriber(), "pop-up")?;
    let here = format!("http://{HOST}/");
    let mut page = browser.open_after(KEEPS_NOTHING, "pop-up", &json!({"locale": "en-US"}))?;
    page.goto(&here)?;
    page.click("#pay-load")?;
    page.see("#pay-unkept")?;
    let (code, _) = fund(&market, &mut page, CAP_SAT)?;
    page.reload()?;
    page.click("#pay-load")?;
    page.see("#pay-start")?;
    let mut other = browser.open("browser", &json!({"locale": "en-US"}))?;
    other.goto(&here)?;
    other.click("#pay-load")?;
    other.see("#pay-start")?;
    ensure!(other.value("document.getElementById('pay-unkept').hidden")? == true, "it does keep");
    other.click("#resume summary")?;
    other.fill("#resume-code", &code)?;
    other.click("#resume button")?;
    other.see("#pay-run")?;
    other.until("document.getElementById('pay-status').dataset.state === 'open'")
}
