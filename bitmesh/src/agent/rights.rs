//! What the process may do, and no more.

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs,
};

use super::AgentError;

/// What the agent needs once it runs: its maps and programs, and the interfaces.
const NEEDED: CapabilitySet =
    CapabilitySet::BPF.union(CapabilitySet::NET_ADMIN).union(CapabilitySet::PERFMON);

/// Whether the process may load programs at all.
///
/// # Errors
///
/// Says that it may not.
pub(super) fn check() -> Result<(), AgentError> {
    match capabilities(None) {
        Ok(held) if held.effective.contains(NEEDED) => Ok(()),
        _ => Err(AgentError::NoRights),
    }
}

/// Gives up every right but those that are needed, for this thread and those it starts. The files
/// of the agent are its own, so they stay open to it.
///
/// # Errors
///
/// Fails if the system refuses.
pub(super) fn drop_all_but_needed() -> Result<(), AgentError> {
    let kept = CapabilitySets {
        effective: NEEDED,
        permitted: NEEDED,
        inheritable: CapabilitySet::empty(),
    };
    set_no_new_privs(true)
        .and_then(|()| set_capabilities(None, kept))
        .map_err(|error| AgentError::DropRights(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_is_gone_and_what_is_needed_stays() {
        // Rights are a thread's own: the other tests keep theirs.
        let checked = std::thread::spawn(|| {
            if check().is_err() {
                assert!(matches!(drop_all_but_needed(), Err(AgentError::DropRights(_))));
                return;
            }
            drop_all_but_needed().expect("dropped");
            let held = capabilities(None).expect("read");
            assert_eq!(held.effective, NEEDED);
            assert_eq!(held.permitted, NEEDED);
            check().expect("still enough");
        });
        checked.join().expect("no panic");
    }
}
