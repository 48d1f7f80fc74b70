// What session keys sign: tagged hashes of parsed fields, as `channel/message.rs` serialises them.

import { schnorr } from "@noble/curves/secp256k1.js";

import { hex, join, le, sized, tagged, unhex } from "./bytes.ts";
import { sign } from "./channel.ts";
import { outpointBytes } from "./tx.ts";

export interface Tariff {
  uplink_msat_per_mib: number;
  downlink_msat_per_mib: number;
  msat_per_minute: number;
  uplink_kbit_per_s: number;
  downlink_kbit_per_s: number;
  throttle_kbit_per_s: number;
}

interface Bounds {
  min_capacity_sat: number;
  max_capacity_sat: number;
  min_first_update_sat: number;
  max_close_fee_sat: number;
}

export interface Offer extends Bounds {
  network: string;
  gateway_key: string;
  tariff: Tariff;
  lock_blocks: number;
  margin_blocks: number;
  confirmations: number;
  valid_until_unix_s: number;
  challenge: string;
}

export interface Bid {
  offer: string;
  round: number;
  tariff: Tariff;
  payer_session_key: string;
}

export interface Terms extends Bounds {
  network: string;
  payer_key: string;
  payee_key: string;
  expiry_height: number;
  margin_blocks: number;
  change_script: string;
  payout_script: string;
}

export interface Agreement {
  offer: string;
  tariff: Tariff;
  terms: Terms;
  payer_session_key: string;
  payee_session_key: string;
  mac: string;
}

export interface CloseRequest {
  agreement: string;
  outpoint: string;
  path: "key_path" | "pay_leaf";
  counted_msat: number;
  challenge: string;
}

export interface Resume {
  agreement: string;
  outpoint: string;
  mac: string;
  challenge: string;
}

export interface Receipt {
  agreement: string;
  outpoint: string;
  uplink_bytes: number;
  downlink_bytes: number;
  time_ms: number;
  charged_msat: number;
  credited_sat: number;
  settled_sat: number;
  returned_sat: number;
  fee_sat: number;
  close_txid: string;
}

/** The bytes that a network's peers greet with. */
const MAGIC: Record<string, string> = {
  bitcoin: "f9beb4d9",
  testnet: "0b110907",
  testnet4: "1c163f28",
  signet: "0a03cf40",
  regtest: "fabfb5da",
};

const u64 = (value: number): Uint8Array => {
  if (!Number.isSafeInteger(value)) throw new Error(`${value} is no whole number`);
  return le(value, 8);
};
const u32 = (value: number): Uint8Array => le(value, 4);
const network = (name: string): Uint8Array => unhex(MAGIC[name] ?? "");
const mac = (text: string): Uint8Array => unhex(text.replaceAll(":", ""));

const tariff = (t: Tariff): Uint8Array =>
  join(
    u64(t.uplink_msat_per_mib), u64(t.downlink_msat_per_mib), u64(t.msat_per_minute),
    u64(t.uplink_kbit_per_s), u64(t.downlink_kbit_per_s), u64(t.throttle_kbit_per_s),
  );

const bounds = (b: Bounds): Uint8Array =>
  join(u64(b.min_capacity_sat), u64(b.max_capacity_sat), u64(b.min_first_update_sat), u64(b.max_close_fee_sat));

const terms = (t: Terms): Uint8Array =>
  join(
    network(t.network), unhex(t.payer_key), unhex(t.payee_key), u32(t.expiry_height), u32(t.margin_blocks),
    sized(unhex(t.change_script)), sized(unhex(t.payout_script)), bounds(t),
  );

/** The fields of each message. */
export const FIELDS = {
  "BitMesh/offer/v1": (o: Offer): Uint8Array =>
    join(
      network(o.network), unhex(o.gateway_key), tariff(o.tariff), bounds(o), u32(o.lock_blocks),
      u32(o.margin_blocks), u32(o.confirmations), u64(o.valid_until_unix_s), unhex(o.challenge),
    ),
  "BitMesh/bid/v1": (b: Bid): Uint8Array =>
    join(unhex(b.offer), u32(b.round), tariff(b.tariff), unhex(b.payer_session_key)),
  "BitMesh/agreement/v1": (a: Agreement): Uint8Array =>
    join(
      unhex(a.offer), tariff(a.tariff), terms(a.terms), unhex(a.payer_session_key),
      unhex(a.payee_session_key), mac(a.mac),
    ),
  "BitMesh/close/v1": (c: CloseRequest): Uint8Array =>
    join(
      unhex(c.agreement), outpointBytes(c.outpoint), Uint8Array.of(c.path === "pay_leaf" ? 1 : 0),
      u64(c.counted_msat), unhex(c.challenge),
    ),
  "BitMesh/resume/v1": (r: Resume): Uint8Array =>
    join(unhex(r.agreement), outpointBytes(r.outpoint), mac(r.mac), unhex(r.challenge)),
  "BitMesh/receipt/v1": (r: Receipt): Uint8Array =>
    join(
      unhex(r.agreement), outpointBytes(r.outpoint), u64(r.uplink_bytes), u64(r.downlink_bytes),
      u64(r.time_ms), u64(r.charged_msat), u64(r.credited_sat), u64(r.settled_sat), u64(r.returned_sat),
      u64(r.fee_sat), unhex(r.close_txid).reverse(),
    ),
} as const;

type Tag = keyof typeof FIELDS;
type Message<T extends Tag> = Parameters<(typeof FIELDS)[T]>[0];

const fieldsOf = <T extends Tag>(tag: T, message: Message<T>): Uint8Array =>
  (FIELDS[tag] as (message: Message<T>) => Uint8Array)(message);

/** The hash that is signed; also the message's name in others. */
export const digest = <T extends Tag>(tag: T, message: Message<T>): string =>
  hex(tagged(tag, fieldsOf(tag, message)));

export const signMessage = <T extends Tag>(tag: T, message: Message<T>, secret: Uint8Array): string =>
  hex(sign(unhex(digest(tag, message)), secret));

export const isSigned = <T extends Tag>(tag: T, message: Message<T>, key: string, signature: string): boolean => {
  try {
    return schnorr.verify(unhex(signature), unhex(digest(tag, message)), unhex(key).slice(1));
  } catch {
    return false;
  }
};
