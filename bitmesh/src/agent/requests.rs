//! From what operators ask to what the core takes in, and back.

use std::collections::BTreeMap;

use bitmesh_core::wire::ApiError;
use bitmesh_core::{
    Answer, ChannelAnswer, ChannelResult, Input, Mac, MilliSat, Refusal, RequestId, Tariff,
};
use tokio::sync::oneshot;

use crate::config::DEFAULT_TARIFF;
use crate::control::Response;
use crate::mac::{CreditIdText, MacText};
use crate::portal::{Answered, Told};

/// A grant, as it was asked for.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) mac: MacText,
    pub(super) msat: u64,
    pub(super) tariff: Option<String>,
    pub(super) id: CreditIdText,
}

/// Requests that the core has not answered yet.
#[derive(Debug, Default)]
pub(super) struct Requests {
    next: u64,
    open: BTreeMap<RequestId, Open>,
    about_channels: BTreeMap<RequestId, Asker>,
}

/// Who asked about a channel.
#[derive(Debug)]
pub(super) enum Asker {
    /// A subscriber's device.
    Station(oneshot::Sender<Answered>),
    /// The operator.
    Operator(oneshot::Sender<Response>),
}

impl Asker {
    fn is_gone(&self) -> bool {
        match self {
            Self::Station(answer) => answer.is_closed(),
            Self::Operator(answer) => answer.is_closed(),
        }
    }
}

#[derive(Debug)]
struct Open {
    mac: MacText,
    id: Option<CreditIdText>,
    asker: Asker,
}

impl Requests {
    /// The core's input for a grant at these prices. Its answer goes to `answer`.
    pub(super) fn grant(
        &mut self,
        grant: &Grant,
        tariff: Tariff,
        answer: oneshot::Sender<Response>,
    ) -> Input {
        let Grant { mac, msat, id, .. } = *grant;
        let asker = Asker::Operator(answer);
        let request = self.open(Open { mac, id: Some(id), asker });
        Input::Grant { request, id: id.0, mac: mac.0, amount: MilliSat(msat), tariff }
    }

    /// The core's input for a stop. Its answer goes to `asker`.
    pub(super) fn stop(&mut self, mac: MacText, asker: Asker) -> Input {
        let request = self.open(Open { mac, id: None, asker });
        Input::Stop { request, mac: mac.0 }
    }

    fn open(&mut self, open: Open) -> RequestId {
        // Askers that have given up need no answer: this keeps the map as small as they are few.
        self.open.retain(|_, open| !open.asker.is_gone());
        let request = self.name();
        self.open.insert(request, open);
        request
    }

    /// Names a request about channels. Its answer goes to `asker`.
    pub(super) fn about_channels(&mut self, asker: Asker) -> RequestId {
        self.about_channels.retain(|_, asker| !asker.is_gone());
        let request = self.name();
        self.about_channels.insert(request, asker);
        request
    }

    fn name(&mut self) -> RequestId {
        let request = RequestId(self.next);
        self.next += 1;
        request
    }

    /// Answers a request about channels. One that nobody asked is ignored.
    pub(super) fn channel_reply(&mut self, request: RequestId, result: ChannelResult) {
        // The asker may be gone.
        match self.about_channels.remove(&request) {
            Some(Asker::Station(answer)) => drop(answer.send(result.map(Told::Channel))),
            Some(Asker::Operator(answer)) => drop(answer.send(for_operator(result))),
            None => {}
        }
    }

    /// Answers a request. One that nobody asked is ignored.
    pub(super) fn reply(&mut self, request: RequestId, result: Result<Answer, Refusal>) {
        let Some(Open { mac, id, asker }) = self.open.remove(&request) else { return };
        let answer = match asker {
            Asker::Operator(answer) => answer,
            Asker::Station(answer) => return drop(answer.send(for_station(result))),
        };
        let response = match (result, id) {
            (Ok(Answer::Granted { balance }), Some(id)) => {
                Response::Granted { mac, balance_msat: balance.0, id }
            }
            (Ok(Answer::Granted { balance } | Answer::Stopped { balance }), _) => {
                Response::Stopped { mac, balance_msat: balance.0 }
            }
            (Err(refusal), _) => Response::refused(refusal),
        };
        // The asker may be gone.
        drop(answer.send(response));
    }
}

/// A station asks for nothing but a stop.
fn for_station(result: Result<Answer, Refusal>) -> Answered {
    result.map(|_| Told::Stopped).map_err(|refusal| {
        let reason = match refusal {
            Refusal::NoAccount => "no_session",
            Refusal::NotDurable => "not_durable",
            Refusal::Overloaded => "overloaded",
            _ => "busy",
        };
        ApiError::new(reason, refusal)
    })
}

fn for_operator(result: ChannelResult) -> Response {
    match result.map(|answer| *answer) {
        Ok(ChannelAnswer::Closing(channels)) => Response::Closing { channels },
        Ok(_) => Response::refused("the answer fits another question: see the log"),
        Err(ApiError { message, .. }) => Response::refused(message),
    }
}

/// The prices of a grant: those that it names, else those of the open session, else the default.
///
/// # Errors
///
/// Says which tariffs there are, if there is none of this name.
pub(super) fn tariff_of(
    named: Option<&str>,
    session: Option<Tariff>,
    tariffs: &BTreeMap<String, Tariff>,
) -> Result<Tariff, String> {
    if let (None, Some(tariff)) = (named, session) {
        return Ok(tariff);
    }
    let name = named.unwrap_or(DEFAULT_TARIFF);
    tariffs.get(name).copied().ok_or_else(|| {
        let known = tariffs.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        format!("there is no tariff `{name}`: use one of {known}")
    })
}

/// A MAC address for the log.
pub(super) fn shown(mac: Mac) -> MacText {
    MacText(mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitmesh_core::CreditId;

    fn grant() -> Grant {
        Grant {
            mac: "02:00:00:00:00:0b".parse().expect("valid"),
            msat: 5,
            tariff: None,
            id: CreditIdText(CreditId(7)),
        }
    }

    fn prices(msat_per_minute: u64) -> Tariff {
        Tariff { msat_per_minute, ..Tariff::default() }
    }

    #[test]
    fn an_answer_finds_its_asker() {
        let mut requests = Requests::default();
        let (first, mut first_answer) = oneshot::channel();
        let (second, mut second_answer) = oneshot::channel();
        let Input::Grant { request, .. } = requests.grant(&grant(), prices(1), first) else {
            panic!("a grant");
        };
        let Input::Stop { request: other, .. } =
            requests.stop(grant().mac, Asker::Operator(second))
        else {
            panic!("a stop");
        };
        requests.reply(other, Err(Refusal::NoAccount));
        requests.reply(request, Ok(Answer::Granted { balance: MilliSat(5) }));
        let (mac, id) = (grant().mac, grant().id);
        let granted = Response::Granted { mac, balance_msat: 5, id };
        assert_eq!(first_answer.try_recv(), Ok(granted));
        assert_eq!(second_answer.try_recv(), Ok(Response::refused(Refusal::NoAccount)));
        assert!(requests.open.is_empty());
    }

    #[test]
    fn an_asker_that_is_gone_leaves_nothing_behind() {
        let mut requests = Requests::default();
        for _ in 0..1_000 {
            let _ = requests.stop(grant().mac, Asker::Operator(oneshot::channel().0));
        }
        assert!(requests.open.len() <= 1, "{}", requests.open.len());
    }

    #[test]
    fn a_grant_keeps_the_prices_of_the_session_unless_it_names_others() {
        let tariffs =
            BTreeMap::from([("default".to_owned(), prices(1)), ("night".to_owned(), prices(2))]);
        let own = Some(prices(9));
        assert_eq!(tariff_of(None, None, &tariffs), Ok(prices(1)));
        assert_eq!(tariff_of(None, own, &tariffs), Ok(prices(9)));
        assert_eq!(tariff_of(Some("night"), own, &tariffs), Ok(prices(2)));
        assert_eq!(
            tariff_of(Some("day"), own, &tariffs),
            Err("there is no tariff `day`: use one of default, night".to_owned())
        );
    }
}
