//! The payment API, one function a route.

use bitcoin::hex::DisplayHex as _;
use bitmesh_core::channel::message::Challenge;
use bitmesh_core::wire::{
    BidAnswer, BidRequest, ChallengeResponse, ChannelId, ChannelView, CloseBody, CloseCompletion,
    CloseOffer, Closed, FundingRequest, OpenRequest, OpenResponse, ResumeBody, SignedOffer,
    UpdateAccepted, UpdateBody,
};
use serde_json::json;

use super::http::{Gateway, HttpError};

impl Gateway {
    pub(super) fn offer(&self, challenge: &Challenge) -> Result<SignedOffer, HttpError> {
        self.get(&format!("/offer?challenge={}", challenge.0.as_hex()))
    }

    pub(super) fn bid(&self, body: &BidRequest) -> Result<BidAnswer, HttpError> {
        self.post(&format!("/offers/{}/bids", body.bid.offer), body)
    }

    pub(super) fn open(&self, body: &OpenRequest) -> Result<OpenResponse, HttpError> {
        self.post("/channels", body)
    }

    pub(super) fn fund(
        &self,
        channel: ChannelId,
        body: &FundingRequest,
    ) -> Result<ChannelView, HttpError> {
        self.post(&format!("/channels/{channel}/funding"), body)
    }

    pub(super) fn view(&self, channel: ChannelId) -> Result<ChannelView, HttpError> {
        self.get(&format!("/channels/{channel}"))
    }

    pub(super) fn update(
        &self,
        channel: ChannelId,
        body: &UpdateBody,
    ) -> Result<UpdateAccepted, HttpError> {
        self.post(&format!("/channels/{channel}/updates"), body)
    }

    pub(super) fn challenge(&self, channel: ChannelId) -> Result<ChallengeResponse, HttpError> {
        self.post(&format!("/channels/{channel}/challenge"), &json!({}))
    }

    pub(super) fn resume(
        &self,
        channel: ChannelId,
        body: &ResumeBody,
    ) -> Result<ChannelView, HttpError> {
        self.post(&format!("/channels/{channel}/resume"), body)
    }

    pub(super) fn close(
        &self,
        channel: ChannelId,
        body: &CloseBody,
    ) -> Result<CloseOffer, HttpError> {
        self.post(&format!("/channels/{channel}/close"), body)
    }

    pub(super) fn complete(
        &self,
        channel: ChannelId,
        body: &CloseCompletion,
    ) -> Result<Closed, HttpError> {
        self.post(&format!("/channels/{channel}/close/complete"), body)
    }
}
