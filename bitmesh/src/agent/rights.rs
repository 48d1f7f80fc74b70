//! What the process may do, and no more.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs,
};

use super::AgentError;

/// What the agent needs once it runs: its maps and programs, and the interfaces.
const NEEDED: CapabilitySet =
    CapabilitySet::BPF.union(CapabilitySet::NET_ADMIN).union(CapabilitySet::PERFMON);

/// What the thread that asks the bitcoin node needs: its cookie is another user's file.
const READING: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;

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

/// Lets the process have as many descriptors as the system allows it: each connection of the portal
/// takes one. Systems start programs with 1,024, and too few are no reason not to start.
pub(super) fn take_descriptors() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "the portal may run out of descriptors");
    }
}

/// Gives up every right but those that are needed, for this thread and those it starts. The files
/// of the agent are its own, so they stay open to it. With `low_port`, the portal may listen anew
/// at a port below 1024.
///
/// # Errors
///
/// Fails if the system refuses.
pub(super) fn drop_all_but_needed(low_port: bool) -> Result<(), AgentError> {
    keep(if low_port { NEEDED.union(CapabilitySet::NET_BIND_SERVICE) } else { NEEDED })
}

/// The same for a thread that only reads files, whoever they belong to.
///
/// # Errors
///
/// Fails if the system refuses.
pub(super) fn drop_all_but_reading() -> Result<(), AgentError> {
    // Who recovers channels need not be root: then there is nothing to keep.
    let held = capabilities(None).map_err(|error| AgentError::DropRights(error.into()))?;
    keep(READING.intersection(held.permitted))
}

/// Gives up every right, for this thread and the programs that it starts.
///
/// # Errors
///
/// Fails if the system refuses.
pub(super) fn drop_all() -> Result<(), AgentError> {
    keep(CapabilitySet::empty())
}

fn keep(rights: CapabilitySet) -> Result<(), AgentError> {
    let inheritable = CapabilitySet::empty();
    let kept = CapabilitySets { effective: rights, permitted: rights, inheritable };
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
                assert!(matches!(drop_all_but_needed(false), Err(AgentError::DropRights(_))));
                return;
            }
            drop_all_but_needed(false).expect("dropped");
            let held = capabilities(None).expect("read");
            assert_eq!(held.effective, NEEDED);
            assert_eq!(held.permitted, NEEDED);
            check().expect("still enough");
        });
        checked.join().expect("no panic");
    }

    #[test]
    fn the_thread_that_asks_the_node_can_only_read() {
        let checked = std::thread::spawn(|| {
            if check().is_ok() {
                drop_all_but_reading().expect("dropped");
                assert_eq!(capabilities(None).expect("read").permitted, READING);
                assert!(matches!(check(), Err(AgentError::NoRights)));
            }
        });
        checked.join().expect("no panic");
    }
}
