// The payer: what it checks, signs and keeps. It knows nothing of the page.

import { hex, unhex } from "./bytes.ts";
import { type Opened, Refused, type SignedOffer, type Update, type View, api } from "./api.ts";
import {
  DUST, type Refund, closeTx, closed, isCloseSigned, isUpdate, signClose, signRefund, signUpdate, updateTx,
} from "./channel.ts";
import { grown, isPlausible } from "./heights.ts";
import { type Keys, keysOf } from "./keys.ts";
import { type Tariff, digest, isSigned, signMessage } from "./messages.ts";
import { isReceiptOf, isSignedByBoth } from "./receipt.ts";
import { type ChannelScript, addressOf, channelScript } from "./script.ts";
import { type Kept, store } from "./store.ts";
import { type Outpoint, type Tx, txid } from "./tx.ts";

/** Refunds are offered at these, in sat for each vB: nobody knows what fees will be then. */
export const REFUND_FEERATES = [1, 5, 20, 100];

/** A step pays for so long at the present rate, in seconds. */
const STEP_S = 2;

/** The gateway does not keep to what it signed. Nothing was signed. */
export class Dishonest extends Error {}

const insist = (holds: boolean, what: string): void => {
  if (!holds) throw new Dishonest(what);
};

export const keys = (kept: Kept): Keys => {
  const found = keysOf(kept.code);
  if (!found) throw new Error("the kept code is damaged");
  return found;
};

/** An offer that answers a question of now. */
export const askOffer = async (network?: string): Promise<SignedOffer> => {
  const challenge = hex(crypto.getRandomValues(new Uint8Array(32)));
  const signed = await api.offer(challenge);
  const { offer, signature } = signed;
  insist(offer.challenge === challenge, "an old offer");
  insist(isSigned("BitMesh/offer/v1", offer, offer.gateway_key, signature), "offer");
  insist(network === undefined || offer.network === network, "network");
  return signed;
};

const PRICES = ["uplink_msat_per_mib", "downlink_msat_per_mib", "msat_per_minute"] as const;

/** Bids this share of the list price. Gives the gateway's answer, an offer that is no dearer. */
export const bid = async (list: Tariff, on: SignedOffer, round: number, percent: number, keys: Keys) => {
  const tariff = { ...on.offer.tariff };
  for (const price of PRICES) {
    tariff[price] = Math.min(Math.floor((list[price] * percent) / 100), on.offer.tariff[price]);
  }
  const bid = { offer: digest("BitMesh/offer/v1", on.offer), round, tariff, payer_session_key: keys.sessionKey };
  const answer = await api.bid(on, bid, signMessage("BitMesh/bid/v1", bid, keys.session));
  const { offer, signature } = answer;
  insist(isSigned("BitMesh/offer/v1", offer, on.offer.gateway_key, signature), "offer");
  const others = { ...offer, tariff: { ...offer.tariff } };
  for (const price of PRICES) {
    insist(offer.tariff[price] <= on.offer.tariff[price], price);
    others.tariff[price] = on.offer.tariff[price];
  }
  const before = digest("BitMesh/offer/v1", on.offer);
  insist(digest("BitMesh/offer/v1", others) === before, "more than prices");
  return answer;
};

/** Compares an agreement with all that this side knows, and the address with its own. */
const check = (opened: Opened, kept: Kept): void => {
  const own = keys(kept);
  const { agreement, signature, channel, address } = opened;
  const { terms } = agreement;
  insist(isSigned("BitMesh/agreement/v1", agreement, agreement.payee_session_key, signature), "agreement");
  insist(digest("BitMesh/agreement/v1", agreement) === channel, "name");
  insist(agreement.payer_session_key === own.sessionKey, "session key");
  insist(agreement.payee_session_key !== own.sessionKey, "session key");
  insist(terms.payer_key === own.channelKey && terms.payee_key !== own.channelKey, "key");
  insist(terms.change_script === kept.change, "change");
  insist(terms.payout_script !== kept.change, "payout");
  insist(addressOf(scriptOfOpened(opened).script, terms.network) === address, "address");
};

/** Takes the gateway's word for the newest block only if it can be true. */
const checkHeight = (network: string, height: number): void => {
  const [seen, now] = [store.seen(network), Date.now()];
  insist(isPlausible(network, height, seen, now), "tip_height");
  store.saw(network, grown(height, seen, now));
};

const checkAgainst = (opened: Opened, { offer }: SignedOffer): void => {
  const { agreement } = opened;
  const { terms } = agreement;
  insist(agreement.offer === digest("BitMesh/offer/v1", offer), "offer");
  for (const name of Object.keys(offer.tariff) as (keyof Tariff)[]) {
    insist(agreement.tariff[name] === offer.tariff[name], name);
  }
  for (const name of [
    "network", "min_capacity_sat", "max_capacity_sat", "min_first_update_sat", "max_close_fee_sat", "margin_blocks",
  ] as const) {
    insist(terms[name] === offer[name], name);
  }
};

const scriptOfOpened = (opened: Opened): ChannelScript => {
  const { payer_key, payee_key, expiry_height } = opened.agreement.terms;
  return channelScript(payer_key, payee_key, expiry_height);
};

const countersign = (opened: Opened, own: Keys): string =>
  signMessage("BitMesh/agreement/v1", opened.agreement, own.session);

/** Takes an offer. All that a refund needs is kept before the address is known to anybody. */
export const open = async (kept: Kept, on: SignedOffer): Promise<Kept> => {
  const own = keys(kept);
  const opened = await api.open(on, own.channelKey, own.sessionKey, kept.change);
  check(opened, kept);
  checkAgainst(opened, on);
  const next = { ...kept, opened, confirmations: on.offer.confirmations, earlySat: on.unconfirmed?.credit_sat ?? 0 };
  store.save(next);
  const view = await api.fund(opened.channel, countersign(opened, own));
  checkHeight(on.offer.network, view.tip_height);
  const latest = view.tip_height + on.offer.lock_blocks + 1;
  insist(opened.agreement.terms.expiry_height <= latest, "expiry_height");
  return next;
};

/** The channel of a code, from the gateway: nothing more is signed until the visitor says so. */
export const resume = async (code: string): Promise<Kept | undefined> => {
  const own = keysOf(code);
  if (!own) return undefined;
  const opened = await api.find(own.channelKey);
  const kept: Kept = { code, change: opened.agreement.terms.change_script, capSat: 0, opened };
  check(opened, kept);
  const view = await api.view(opened.channel);
  const learnt = learn(kept, view);
  const next = { ...learnt, capSat: creditOf(learnt) };
  store.save(next);
  return next;
};

/** Has the gateway broadcast the funding. */
export const relay = (kept: Kept, raw: string): Promise<View> =>
  api.fund(needOpened(kept).channel, countersign(needOpened(kept), keys(kept)), raw.trim().toLowerCase());

const needOpened = (kept: Kept): Opened => {
  if (!kept.opened) throw new Error("no channel");
  return kept.opened;
};

const inputOf = (kept: Kept): Outpoint => {
  if (!kept.outpoint || !kept.capacitySat) throw new Error("no funding");
  return { at: kept.outpoint, sat: kept.capacitySat, script: scriptOfOpened(needOpened(kept)).script };
};

/** What is signed away in all, in satoshi. */
export const creditOf = (kept: Kept): number =>
  kept.newest && kept.capacitySat ? kept.capacitySat - kept.newest.change_sat : 0;

const isOwn = (kept: Kept, update: Update): boolean => {
  const opened = needOpened(kept);
  const tx = updateTx(inputOf(kept), update.change_sat, unhex(kept.change));
  const payer = unhex(opened.agreement.terms.payer_key);
  return isUpdate(tx, scriptOfOpened(opened), payer, unhex(update.signature));
};

/** Pins the funding once, and goes on from the gateway's newest update if that is ours. */
const learn = (kept: Kept, view: View): Kept => {
  let next = kept;
  checkHeight(needOpened(kept).agreement.terms.network, view.tip_height);
  if (!view.outpoint) return next;
  // Before the first update another funding may take the place of the first.
  if (!next.newest) next = { ...next, outpoint: view.outpoint, capacitySat: view.capacity_sat };
  insist(next.outpoint === view.outpoint, "funding");
  const { newest } = view;
  if (newest && (!next.newest || newest.change_sat < next.newest.change_sat)) {
    insist(isOwn(next, newest), "update");
    next = { ...next, newest };
  }
  return next;
};

/** The change after so much credit, or the next that nodes relay. */
const legalChange = (capacity: number, credit: number, capSat: number): number => {
  const change = capacity - credit;
  if (change >= DUST) return change;
  return capSat >= capacity ? 0 : DUST;
};

let seen: { at: number; charged: number }[] = [];

/** The step: two seconds of what was used lately, at least a MiB and two seconds of time. */
const stepOf = (tariff: Tariff, chargedMsat: number): number => {
  const now = performance.now();
  seen = [...seen.filter(({ at }) => now - at < STEP_S * 1_000), { at: now, charged: chargedMsat }];
  const first = seen[0];
  const span = first ? now - first.at : 0;
  const used = first && span >= 400 ? ((chargedMsat - first.charged) / span) * STEP_S * 1_000 : 0;
  const dearer = Math.max(tariff.uplink_msat_per_mib, tariff.downlink_msat_per_mib);
  const least = dearer + (tariff.msat_per_minute * STEP_S) / 60;
  return Math.ceil(Math.max(used, least) / 1_000);
};

/** What the visitor's page shows of its channel. */
export interface Standing {
  kept: Kept;
  view: View;
  /** All that may be spent is used. */
  isSpent: boolean;
}

/** Looks how the channel is, and pays if less than half a step is left. */
export const tick = async (): Promise<Standing | undefined> => {
  // Another tab may have gone on.
  const kept = store.load();
  if (!kept?.opened) return undefined;
  const view = await api.view(kept.opened.channel);
  const next = learn(store.load() ?? kept, view);
  store.save(next);
  if (view.state !== "open" || next.closed) return { kept: next, view, isSpent: false };
  const capacity = next.capacitySat ?? 0;
  const { terms, tariff } = next.opened!.agreement;
  const step = stepOf(tariff, view.charged_msat);
  const left = view.credit_msat - view.charged_msat;
  const cap = Math.min(next.capSat, capacity);
  const isFirst = !next.newest;
  if (!isFirst && left * 2 >= step * 1_000) return { kept: next, view, isSpent: false };
  const wish = isFirst
    ? Math.max(terms.min_first_update_sat, step)
    : Math.ceil(view.charged_msat / 1_000) + step;
  const change = legalChange(capacity, Math.min(wish, cap), cap);
  const credit = capacity - change;
  if (credit > cap || credit <= creditOf(next) || (isFirst && credit < terms.min_first_update_sat)) {
    // What was signed and perhaps never came is sent again.
    if (next.newest && next.newest.change_sat < (view.newest?.change_sat ?? Infinity)) {
      await send(next, next.newest);
    }
    return { kept: next, view, isSpent: left <= step * 500 };
  }
  const own = keys(next);
  const tx = updateTx(inputOf(next), change, unhex(next.change));
  const signature = hex(signUpdate(tx, scriptOfOpened(next.opened!), own.channel));
  const paid = { ...next, newest: { change_sat: change, signature } };
  store.save(paid);
  await send(paid, paid.newest);
  return { kept: paid, view, isSpent: false };
};

const send = async (kept: Kept, update: Update): Promise<void> => {
  try {
    await api.update(needOpened(kept).channel, update);
  } catch (error) {
    // The gateway has it, or a newer one that the next look shows.
    if (!(error instanceof Refused && error.reason === "stale")) throw error;
  }
};

/** More may be spent, up to what the channel holds. */
export const raise = (bySat: number): Kept | undefined => {
  const kept = store.load();
  if (!kept) return undefined;
  const next = { ...kept, capSat: Math.min(kept.capSat + bySat, kept.capacitySat ?? Infinity) };
  store.save(next);
  return next;
};

/** Proves whose channel it is: the gateway then serves this device, under this address, and no other. */
export const move = async (to: string): Promise<void> => {
  const kept = store.load();
  if (!kept) throw new Error("no channel");
  const { channel } = needOpened(kept);
  const { challenge, mac } = await api.challenge(channel);
  // Only the address that the visitor was shown: a proof for another would give the balance away.
  insist(mac === to, "mac");
  const request = { agreement: channel, outpoint: inputOf(kept).at, mac: to, challenge };
  await api.resume(channel, request, signMessage("BitMesh/resume/v1", request, keys(kept).session));
};

/** Refunds of the whole channel, for when the gateway is gone. */
export const refunds = (kept: Kept): (Refund & { feerate: number })[] => {
  const opened = needOpened(kept);
  const [script, { channel }] = [scriptOfOpened(opened), keys(kept)];
  const expiry = opened.agreement.terms.expiry_height;
  return REFUND_FEERATES.flatMap((feerate) => {
    const refund = signRefund(inputOf(kept), script, expiry, unhex(kept.change), channel, feerate);
    return refund ? [{ ...refund, feerate }] : [];
  });
};

/** What a close pays, as `CooperativePlan` settles it. */
export const settle = (capacity: number, charges: number, fee: number, maxFee: number) => {
  let change = capacity - charges;
  const share = Math.min(fee, maxFee, change);
  change -= share;
  let payout = charges - (fee - share);
  if (payout < DUST) [change, payout] = [change + payout, 0];
  else if (change < DUST) [payout, change] = [payout + change, 0];
  return { change, payout };
};

/** Whether this is the close that was signed, with their signature first, and theirs holds. */
const isClose = (raw: string, tx: Tx, opened: Opened, own: Uint8Array): boolean => {
  const [script, blank] = [scriptOfOpened(opened), new Uint8Array(64).fill(0xff)];
  const at = hex(closed(tx, script, blank, own)).indexOf(hex(blank));
  const theirs = unhex(raw.slice(at, at + 128));
  const { payee_key } = opened.agreement.terms;
  return hex(closed(tx, script, theirs, own)) === raw && isCloseSigned(tx, script, unhex(payee_key), theirs);
};

/**
 * Closes by the pay leaf. Signs only what follows from charges that were paid for, and a receipt
 * only if it says that.
 */
export const close = async (): Promise<Kept> => {
  const kept = store.load();
  if (!kept) throw new Error("no channel");
  const opened = needOpened(kept);
  const own = keys(kept);
  const { terms } = opened.agreement;
  const view = await api.view(opened.channel);
  const { challenge } = await api.challenge(opened.channel);
  const request = {
    agreement: opened.channel,
    outpoint: inputOf(kept).at,
    path: "pay_leaf" as const,
    counted_msat: view.charged_msat,
    challenge,
  };
  const { plan, receipt } = await api.close(opened.channel, request, signMessage("BitMesh/close/v1", request, own.session));
  const input = inputOf(kept);
  const { change, payout } = settle(input.sat, plan.charges_sat, plan.fee_sat, terms.max_close_fee_sat);
  insist(plan.charges_sat <= creditOf(kept), "charges_sat");
  insist(change === plan.change_sat && payout === plan.payout_sat && change >= 0, "plan");
  const changeOutput = { sat: change, script: unhex(kept.change) };
  const tx = closeTx(input, changeOutput, { sat: payout, script: unhex(terms.payout_script) });
  const script = scriptOfOpened(opened);
  const signature = signClose(tx, script, own.channel);
  const settled = { input, charges: plan.charges_sat, change, payout, txid: txid(tx) };
  // The close does not depend on the receipt.
  const half = isReceiptOf(receipt, opened.agreement, settled)
    ? { pay_leaf: hex(signature), receipt_signature: signMessage("BitMesh/receipt/v1", receipt, own.session) }
    : { pay_leaf: hex(signature) };
  const done = await api.complete(opened.channel, half);
  insist(done.txid === txid(tx) && isClose(done.raw_tx, tx, opened, signature), "close");
  const signed = {
    agreement: opened.agreement,
    receipt,
    payee_signature: done.receipt_signature,
    payer_signature: half.receipt_signature ?? "",
  };
  const next = { ...kept, closed: done, ...(isSignedByBoth(signed) ? { receipt: signed } : {}) };
  store.save(next);
  return next;
};
