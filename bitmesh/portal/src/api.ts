// The gateway's payment API (`bitmesh/API.md`).

import type { Agreement, Bid, CloseRequest, Offer, Receipt, Resume, Tariff } from "./messages.ts";

export interface SignedOffer {
  offer: Offer;
  signature: string;
  /** What counts before the funding is confirmed: the gateway's own risk, so it is not signed. */
  unconfirmed?: { credit_sat: number };
}

export interface BidAnswer extends SignedOffer {
  verdict: "accepted" | "countered" | "declined";
  rounds_left: number;
}

export interface Opened {
  channel: string;
  agreement: Agreement;
  signature: string;
  address: string;
}

export interface Update {
  change_sat: number;
  signature: string;
}

export interface View {
  mac: string;
  state: string;
  outpoint: string | null;
  capacity_sat: number;
  confirmations: number;
  required: number;
  tip_height: number;
  newest: Update | null;
  credit_msat: number;
  charged_msat: number;
  notice: string | null;
  session: { tariff: Tariff } | null;
}

export interface Plan {
  path: string;
  charges_sat: number;
  fee_sat: number;
  payout_sat: number;
  change_sat: number;
}

export interface Closed {
  txid: string;
  raw_tx: string;
  settled_sat: number;
  returned_sat: number;
  fee_sat: number;
  receipt: Receipt;
  receipt_signature: string;
}

/** A refusal, with the gateway's sentence. */
export class Refused extends Error {
  constructor(
    readonly reason: string,
    message: string,
    readonly newest?: Update,
  ) {
    super(message);
  }
}

const PATIENCE_MS = 30_000;

const ask = async <T>(path: string, body?: unknown): Promise<T> => {
  const sent = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  const answer = await fetch(`/api/v1${path}`, { ...sent, signal: AbortSignal.timeout(PATIENCE_MS) });
  const said = await answer.json();
  if (!answer.ok) throw new Refused(said.reason, said.message, said.newest);
  return said as T;
};

export const api = {
  offer: (challenge: string) => ask<SignedOffer>(`/offer?challenge=${challenge}`),
  bid: (on: SignedOffer, bid: Bid, bid_signature: string) =>
    ask<BidAnswer>(`/offers/${bid.offer}/bids`, { offer: on.offer, signature: on.signature, bid, bid_signature }),
  open: (on: SignedOffer, payer_key: string, payer_session_key: string, change_script: string) =>
    ask<Opened>("/channels", { offer: on.offer, signature: on.signature, payer_key, payer_session_key, change_script }),
  find: (payerKey: string) => ask<Opened>(`/payers/${payerKey}/channel`),
  fund: (id: string, agreement_signature: string, raw_tx?: string) =>
    ask<View>(`/channels/${id}/funding`, raw_tx ? { agreement_signature, raw_tx } : { agreement_signature }),
  view: (id: string) => ask<View>(`/channels/${id}`),
  update: (id: string, update: Update) => ask<{ change_sat: number }>(`/channels/${id}/updates`, update),
  challenge: (id: string) => ask<{ challenge: string; mac: string }>(`/channels/${id}/challenge`, {}),
  resume: (id: string, request: Resume, signature: string) =>
    ask<View>(`/channels/${id}/resume`, { request, signature }),
  close: (id: string, request: CloseRequest, signature: string) =>
    ask<{ plan: Plan; receipt: Receipt }>(`/channels/${id}/close`, { request, signature }),
  complete: (id: string, half: { pay_leaf: string; receipt_signature?: string }) =>
    ask<Closed>(`/channels/${id}/close/complete`, half),
};
