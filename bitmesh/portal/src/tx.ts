// Transactions with one input, and what a signature over a leaf covers (BIP 341, 342).

import { compact, hex, join, le, sha256, sized, tagged, unhex } from "./bytes.ts";

export const DEFAULT = 0x00;
export const NONE_ANYONECANPAY = 0x82;
export const SINGLE_ANYONECANPAY = 0x83;

/** Replaceable, and final with a locktime in force (BIP 125). */
const SEQUENCE = 0xfffffffd;

export interface Output {
  sat: number;
  script: Uint8Array;
}

/** What is spent. `at` reads `TXID:VOUT`. */
export interface Outpoint {
  at: string;
  sat: number;
  script: Uint8Array;
}

export interface Tx {
  version: 2 | 3;
  locktime: number;
  input: Outpoint;
  outputs: Output[];
}

export const outpointBytes = (at: string): Uint8Array => {
  const [txid, vout] = at.split(":");
  if (!txid || !/^[0-9a-f]{64}$/.test(txid) || !vout || !/^\d{1,10}$/.test(vout)) {
    throw new Error(`${at} is no outpoint`);
  }
  return join(unhex(txid).reverse(), le(Number(vout), 4));
};

const outputBytes = ({ sat, script }: Output): Uint8Array => join(le(sat, 8), sized(script));

/** Its bytes (BIP 144), without a witness if there is none. */
export const serialize = (tx: Tx, witness: Uint8Array[] = []): Uint8Array => {
  const input = join(outpointBytes(tx.input.at), compact(0), le(SEQUENCE, 4));
  const body = join(compact(1), input, compact(tx.outputs.length), ...tx.outputs.map(outputBytes));
  const [version, locktime] = [le(tx.version, 4), le(tx.locktime, 4)];
  if (!witness.length) return join(version, body, locktime);
  const stack = join(compact(witness.length), ...witness.map(sized));
  return join(version, Uint8Array.of(0, 1), body, stack, locktime);
};

export const txid = (tx: Tx): string => hex(sha256(sha256(serialize(tx))).reverse());

/** In vB, rounded up (BIP 141). */
export const vsize = (tx: Tx, witness: Uint8Array[]): number =>
  Math.ceil((3 * serialize(tx).length + serialize(tx, witness).length) / 4);

/** The hash that a signature of this type covers, of the only input, by this leaf. */
export const sighash = (tx: Tx, type: number, leaf: Uint8Array): Uint8Array => {
  const { input, outputs } = tx;
  const [outpoint, amount, sequence] = [outpointBytes(input.at), le(input.sat, 8), le(SEQUENCE, 4)];
  const script = sized(input.script);
  const parts = [Uint8Array.of(0, type), le(tx.version, 4), le(tx.locktime, 4)];
  const anyone = type & 0x80;
  if (!anyone) parts.push(sha256(outpoint), sha256(amount), sha256(script), sha256(sequence));
  if (type === DEFAULT) parts.push(sha256(join(...outputs.map(outputBytes))));
  // By a leaf, without an annex.
  parts.push(Uint8Array.of(2));
  if (anyone) parts.push(outpoint, amount, script, sequence);
  else parts.push(le(0, 4));
  if (type === SINGLE_ANYONECANPAY) {
    const [first] = outputs;
    if (!first) throw new Error("there is no output to sign");
    parts.push(sha256(outputBytes(first)));
  }
  return tagged("TapSighash", ...parts, leaf, Uint8Array.of(0), le(0xffffffff, 4));
};
