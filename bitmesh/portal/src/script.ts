// The channel's output: both keys together, or one of two leaves.

import { schnorr, secp256k1 } from "@noble/curves/secp256k1.js";
import { bech32, bech32m } from "@scure/base";

import { hex, join, order, same, sized, tagged, unhex } from "./bytes.ts";

const { Point } = secp256k1;
const LEAF_VERSION = 0xc0;
const number = (bytes: Uint8Array): bigint => BigInt(`0x${hex(bytes)}`);
const scalar = (bytes: Uint8Array): bigint => number(bytes) % Point.Fn.ORDER;

/** Both keys as one (BIP 327, with sorted keys), without the parity of its Y. */
const aggregate = (keys: Uint8Array[]): Uint8Array => {
  const sorted = [...keys].sort(order);
  const [first] = sorted;
  if (!first) throw new Error("no keys");
  const list = tagged("KeyAgg list", ...sorted);
  const second = sorted.find((key) => !same(key, first));
  const points = sorted.map((key) => {
    const point = Point.fromBytes(key);
    if (second && same(key, second)) return point;
    return point.multiply(scalar(tagged("KeyAgg coefficient", list, key)));
  });
  return points.reduce((sum, point) => sum.add(point)).toBytes(true).slice(1);
};

/** As little as a number takes on the stack (BIP 62). */
const scriptNumber = (value: number): Uint8Array => {
  const bytes = [];
  for (let rest = value; rest > 0; rest = Math.floor(rest / 256)) bytes.push(rest % 256);
  if ((bytes.at(-1) ?? 0) & 0x80) bytes.push(0);
  if (value <= 16) return Uint8Array.of(0x50 + value);
  return sized(Uint8Array.from(bytes));
};

export const tapLeaf = (script: Uint8Array): Uint8Array =>
  tagged("TapLeaf", Uint8Array.of(LEAF_VERSION), sized(script));

/** A leaf, its hash, and what proves that the output holds it. */
export interface Leaf {
  script: Uint8Array;
  hash: Uint8Array;
  control: Uint8Array;
}

export interface ChannelScript {
  /** What a funding pays to. */
  script: Uint8Array;
  pay: Leaf;
  refund: Leaf;
}

/** The output of a channel between C and R that expires at this height. */
export const channelScript = (payer: string, payee: string, expiry: number): ChannelScript => {
  const [c, r] = [unhex(payer), unhex(payee)];
  if (expiry < 1 || expiry >= 500_000_000) throw new Error("the expiry is no height");
  const key = (key: Uint8Array): Uint8Array => sized(key.slice(1));
  const pay = join(key(c), Uint8Array.of(0xad), key(r), Uint8Array.of(0xac));
  const refund = join(key(c), Uint8Array.of(0xad), scriptNumber(expiry), Uint8Array.of(0xb1));
  const [payHash, refundHash] = [tapLeaf(pay), tapLeaf(refund)];
  const root = tagged("TapBranch", ...[payHash, refundHash].sort(order));
  const internal = aggregate([c, r]);
  const tweak = scalar(tagged("TapTweak", internal, root));
  const output = schnorr.utils.lift_x(number(internal)).add(Point.BASE.multiply(tweak)).toBytes(true);
  const head = join(Uint8Array.of(LEAF_VERSION | ((output[0] ?? 2) & 1)), internal);
  return {
    script: join(Uint8Array.of(0x51, 0x20), output.slice(1)),
    pay: { script: pay, hash: payHash, control: join(head, refundHash) },
    refund: { script: refund, hash: refundHash, control: join(head, payHash) },
  };
};

const PREFIXES: Record<string, string> = {
  bitcoin: "bc",
  testnet: "tb",
  testnet4: "tb",
  signet: "tb",
  regtest: "bcrt",
};

const prefix = (network: string): string => {
  const known = PREFIXES[network];
  if (!known) throw new Error(`the network ${network} is not known here`);
  return known;
};

/** The address of a Taproot output (BIP 350). */
export const addressOf = (script: Uint8Array, network: string): string =>
  bech32m.encode(prefix(network), [1, ...bech32m.toWords(script.slice(2))]);

/** The script of an address that a close can pay to: P2WPKH, P2WSH or P2TR. */
export const scriptOf = (address: string, network: string): Uint8Array | undefined => {
  const lower = address.trim().toLowerCase();
  for (const [code, version] of [[bech32, 0], [bech32m, 1]] as const) {
    const found = code.decodeUnsafe(lower as `${string}1${string}`, 90);
    if (!found || found.prefix !== prefix(network) || found.words[0] !== version) continue;
    const program = code.fromWordsUnsafe(found.words.slice(1));
    if (!program) continue;
    const sizes = version === 0 ? [20, 32] : [32];
    if (!sizes.includes(program.length)) continue;
    return join(Uint8Array.of(version ? 0x50 + version : 0), sized(Uint8Array.from(program)));
  }
  return undefined;
};
