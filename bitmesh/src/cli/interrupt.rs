//! Ctrl-C and SIGTERM, as a wish to stop.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use crate::payer::Stop;

/// From now on each SIGINT, SIGTERM or SIGHUP asks `stop`.
pub(super) fn ask_on_interrupt(stop: Stop) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut int, mut term, mut hang_up) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        )
    };
    let wait = async move {
        loop {
            tokio::select! {
                _ = int.recv() => {}
                _ = term.recv() => {}
                _ = hang_up.recv() => {}
            }
            stop.ask();
        }
    };
    let thread = std::thread::Builder::new().name("interrupt".to_owned());
    thread.spawn(move || runtime.block_on(wait)).map(drop)
}
