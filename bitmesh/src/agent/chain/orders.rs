//! What the event loop wants of the chain. Obligations are absolute, so a newer one replaces an
//! older one of the same kind: there are never more than a few for each channel.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use bitcoin::{OutPoint, ScriptBuf, Transaction};
use bitmesh_core::wire::ChannelId;
use bitmesh_core::{ChannelCommand, Purpose};

/// A script to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    pub(super) script: ScriptBuf,
    pub(super) outpoint: Option<OutPoint>,
    pub(super) since_height: u32,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Todo {
    /// `None`: not to be watched any more.
    pub(super) watches: BTreeMap<ChannelId, Option<Watch>>,
    pub(super) broadcasts: BTreeMap<(ChannelId, Purpose), Transaction>,
}

#[derive(Debug, Default)]
struct State {
    todo: Todo,
    begun: bool,
    ended: bool,
}

/// Where obligations wait.
#[derive(Debug, Default)]
pub(super) struct Orders {
    state: Mutex<State>,
    woken: Condvar,
}

impl Orders {
    pub(super) fn add(&self, command: ChannelCommand) {
        self.change(|State { todo, .. }| match command {
            ChannelCommand::Watch { channel, script, outpoint, since_height } => {
                todo.watches.insert(channel, Some(Watch { script, outpoint, since_height }));
            }
            ChannelCommand::Unwatch { channel } => {
                todo.watches.insert(channel, None);
                todo.broadcasts.retain(|(of, _), _| *of != channel);
            }
            ChannelCommand::Broadcast { channel, purpose, tx } => {
                todo.broadcasts.insert((channel, purpose), *tx);
            }
        });
    }

    pub(super) fn begin(&self) {
        self.change(|state| state.begun = true);
    }

    pub(super) fn end(&self) {
        self.change(|state| state.ended = true);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.woken.notify_one();
    }

    /// Waits this long for obligations, and takes them; `None` at the end.
    pub(super) fn take(&self, pause: Duration) -> Option<Todo> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.woken.wait_while(state, |state| !state.begun && !state.ended);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let idle = |state: &mut State| {
            !state.ended && state.todo.watches.is_empty() && state.todo.broadcasts.is_empty()
        };
        let waited = self.woken.wait_timeout_while(state, pause, idle);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.ended { None } else { Some(std::mem::take(&mut state.todo)) }
    }
}
