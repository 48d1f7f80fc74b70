//! The page over TLS, in a real browser: led there from plain HTTP, live, and stopped by its button.

use anyhow::{Result, ensure};
use bitmesh_tests::agent::Agent;
use bitmesh_tests::browser::Browser;
use bitmesh_tests::lab::{Lab, SERVER_V4};
use bitmesh_tests::tls::{NAME, Operator, TLS_PORT};
use serde_json::json;

#[test]
fn a_probe_leads_to_the_page_over_tls_which_is_live_and_stops() -> Result<()> {
    let lab = Lab::new()?;
    let files = Operator::new()?;
    files.renew()?;
    let agent = Agent::start(&lab, &files.settings())?;
    let bob = lab.subscriber();
    let mut browser = Browser::start(bob, "tls")?;
    // No browser knows who signed the certificate of a test.
    let mut page = browser.open("bob", &json!({"locale": "en-US", "ignoreHTTPSErrors": true}))?;
    let led_to = page.goto(&format!("http://{SERVER_V4}/generate_204"))?;
    ensure!(led_to == format!("https://{NAME}:{TLS_PORT}/"), "the probe was led to {led_to}");
    ensure!(page.value("isSecureContext")? == true, "no secure context");
    agent.grant(bob, 500_000)?;
    page.until("document.body.dataset.state === 'open'")?;
    page.until("Number(document.getElementById('left').value) > 400000")?;
    page.pictures("online")?;
    page.click("#stop button")?;
    page.until("document.body.dataset.state === 'closed'")?;
    ensure!(page.value("location.protocol")? == "https:", "it left TLS");
    ensure!(agent.account(bob)?["state"] == "closed", "the gate is open");
    Ok(())
}
