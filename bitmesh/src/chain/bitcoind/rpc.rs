//! JSON-RPC over HTTP, as bitcoin nodes speak it.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::auth::Auth;
use crate::chain::ChainError;
use crate::chain::error::one_line;
use crate::http::{Answer as HttpAnswer, Ask, NoAnswer, Url};

/// How long one question may take, unless the configuration says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of one answer, at most: the largest block (4 MB, twice that in hexadecimal) and the ids
/// of 450,000 transactions fit.
pub const MAX_ANSWER_BYTES: usize = 32 << 20;

/// Questions in one request, at most: the largest standard transaction as each of the answers
/// stays far below [`MAX_ANSWER_BYTES`].
pub const MAX_BATCH: usize = 16;

/// RPC error: the node is starting.
const IN_WARMUP: i64 = -28;
/// RPC error: no such method.
const METHOD_NOT_FOUND: i64 = -32_601;

/// Where a node is and how to ask it. Shows no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcConfig {
    /// `http://HOST:PORT`, with `/wallet/NAME` where a wallet is meant.
    pub url: String,
    /// Who asks.
    pub auth: Auth,
    /// How long one question may take.
    pub timeout: Duration,
}

/// What a node may be asked. Blocks.
#[derive(Clone, Debug)]
pub struct Rpc {
    config: RpcConfig,
    url: Url,
}

/// The node's error, in one of its answers.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RpcError {
    /// Of which kind.
    pub(super) code: i64,
    /// In its own words.
    #[serde(default)]
    pub(super) message: String,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    error: Option<RpcError>,
}

/// What became of one question: the node has its say either way.
pub(super) type Said = Result<Value, RpcError>;

impl Rpc {
    /// Asks the node at this address. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// [`ChainError::Address`] if it is none, or has a password in it.
    pub fn new(config: RpcConfig) -> Result<Self, ChainError> {
        let Some(rest) = config.url.strip_prefix("http://") else {
            return Err(ChainError::Address("what does not begin with http://"));
        };
        // It would end up in messages and logs.
        if rest.contains('@') {
            return Err(ChainError::Address("what has a password in it"));
        }
        let url = config.url.parse().map_err(|_| ChainError::Address("this text"))?;
        Ok(Self { config, url })
    }

    /// Asks one thing.
    ///
    /// # Errors
    ///
    /// Why there is no answer.
    pub fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &Value,
    ) -> Result<T, ChainError> {
        let said = self.ask(method, params)?;
        let result = said.map_err(|error| refused(method, error))?;
        serde_json::from_value(result).map_err(|error| nonsense(method, &error.to_string()))
    }

    /// Asks one thing, and passes on what the node refuses for reasons of the question.
    pub(super) fn ask(&self, method: &'static str, params: &Value) -> Result<Said, ChainError> {
        let request = json!({"jsonrpc": "1.0", "id": 0, "method": method, "params": params});
        let answer: Answer = self.post(method, &request)?;
        said(method, answer)
    }

    /// Asks the same of several things, at most [`MAX_BATCH`] in one request; the answers have the
    /// order of the questions.
    pub(super) fn ask_each(
        &self,
        method: &'static str,
        all: impl ExactSizeIterator<Item = Value>,
    ) -> Result<Vec<Said>, ChainError> {
        let requests: Vec<Value> = all
            .enumerate()
            .map(|(id, params)| json!({"jsonrpc": "1.0", "id": id, "method": method, "params": params}))
            .collect();
        let mut collected = Vec::with_capacity(requests.len());
        for batch in requests.chunks(MAX_BATCH) {
            let mut answers: Vec<Answer> = self.post(method, &Value::from(batch))?;
            answers.sort_by_key(|answer| answer.id.as_u64());
            let asked = batch.iter().map(|request| &request["id"]);
            if !asked.eq(answers.iter().map(|answer| &answer.id)) {
                return Err(nonsense(method, "not every question is answered"));
            }
            for answer in answers {
                collected.push(said(method, answer)?);
            }
        }
        Ok(collected)
    }

    fn post<T: DeserializeOwned>(
        &self,
        method: &'static str,
        body: &Value,
    ) -> Result<T, ChainError> {
        let RpcConfig { auth, timeout, .. } = &self.config;
        let json = body.to_string().into_bytes();
        let mut ask = Ask::post(&self.url, json, *timeout, MAX_ANSWER_BYTES);
        ask.authorization = Some(auth.header()?);
        let answer = ask.send().map_err(|error| self.unanswered(method, error))?;
        let HttpAnswer { status, body } = answer;
        match status {
            401 => return Err(ChainError::Unauthorized),
            403 => return Err(ChainError::Forbidden(method)),
            503 => return Err(ChainError::Busy),
            // Errors have a status of their own, and a body that says more.
            _ => {}
        }
        serde_json::from_slice(&body)
            .map_err(|error| nonsense(method, &format!("HTTP status {status}, {error}")))
    }

    fn unanswered(&self, method: &'static str, error: NoAnswer) -> ChainError {
        let down = |reason: String| ChainError::Down { url: self.config.url.clone(), reason };
        match error {
            NoAnswer::Unreachable(error) => down(error.to_string()),
            NoAnswer::BrokenOff => down("it broke the connection off".to_owned()),
            NoAnswer::Late => ChainError::Slow { method, after: self.config.timeout },
            NoAnswer::Long => ChainError::TooLong { method, limit: MAX_ANSWER_BYTES },
            NoAnswer::Nonsense(what) => nonsense(method, &what),
            NoAnswer::Question => ChainError::Address("this text"),
        }
    }
}

/// Sorts out what concerns the node and not the question.
fn said(method: &'static str, answer: Answer) -> Result<Said, ChainError> {
    let Some(mut error) = answer.error else { return Ok(Ok(answer.result)) };
    error.message = one_line(&error.message);
    match error.code {
        IN_WARMUP => Err(ChainError::WarmingUp(error.message)),
        METHOD_NOT_FOUND => Err(ChainError::TooOld(method)),
        _ => Ok(Err(error)),
    }
}

/// A refusal that is the caller's to deal with.
pub(super) fn refused(method: &'static str, error: RpcError) -> ChainError {
    ChainError::Refused { method, code: error.code, message: error.message }
}

/// An answer that can't be used.
pub(super) fn nonsense(method: &'static str, what: &str) -> ChainError {
    ChainError::Nonsense { method, what: one_line(what) }
}
