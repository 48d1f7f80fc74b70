// What the payer signs: updates, the close by the pay leaf, refunds.

import { schnorr } from "@noble/curves/secp256k1.js";

import { join } from "./bytes.ts";
import { type ChannelScript, type Leaf } from "./script.ts";
import {
  DEFAULT, NONE_ANYONECANPAY, type Outpoint, type Output, SINGLE_ANYONECANPAY, type Tx, serialize, sighash, vsize,
} from "./tx.ts";

/** The least that an output holds, so that nodes relay it. */
export const DUST = 330;

/** BIP 340 without auxiliary randomness: the same message gives the same signature. */
export const sign = (hash: Uint8Array, secret: Uint8Array): Uint8Array =>
  schnorr.sign(hash, secret, new Uint8Array(32));

/** The payer's part of a close that leaves it this much. */
export const updateTx = (input: Outpoint, changeSat: number, change: Uint8Array): Tx => {
  if (changeSat !== 0 && (changeSat < DUST || changeSat > input.sat)) throw new Error("no legal change");
  const outputs = changeSat ? [{ sat: changeSat, script: change }] : [];
  return { version: 3, locktime: 0, input, outputs };
};

export const updateType = (changeSat: number): number =>
  changeSat ? SINGLE_ANYONECANPAY : NONE_ANYONECANPAY;

/** An update: 65 bytes, the hash type last. */
export const signUpdate = (tx: Tx, script: ChannelScript, secret: Uint8Array): Uint8Array => {
  const type = updateType(tx.outputs[0]?.sat ?? 0);
  return join(sign(sighash(tx, type, script.pay.hash), secret), Uint8Array.of(type));
};

/** Whether an update is the payer's. `payer` is C, 33 bytes. */
export const isUpdate = (tx: Tx, script: ChannelScript, payer: Uint8Array, signature: Uint8Array): boolean => {
  const type = updateType(tx.outputs[0]?.sat ?? 0);
  if (signature.length !== 65 || signature[64] !== type) return false;
  return schnorr.verify(signature.slice(0, 64), sighash(tx, type, script.pay.hash), payer.slice(1));
};

/** A close together: change, then payout; one that is 0 is left out. */
export const closeTx = (input: Outpoint, change: Output, payout: Output): Tx => ({
  version: 3,
  locktime: 0,
  input,
  outputs: [change, payout].filter((output) => output.sat > 0),
});

/** The payer's signature of it. */
export const signClose = (tx: Tx, script: ChannelScript, secret: Uint8Array): Uint8Array =>
  sign(sighash(tx, DEFAULT, script.pay.hash), secret);

/** Whether a signature of a close is that of this key, 33 bytes. */
export const isCloseSigned = (tx: Tx, script: ChannelScript, key: Uint8Array, signature: Uint8Array): boolean =>
  schnorr.verify(signature, sighash(tx, DEFAULT, script.pay.hash), key.slice(1));

const witness = (leaf: Leaf, ...signatures: Uint8Array[]): Uint8Array[] => [
  ...signatures,
  leaf.script,
  leaf.control,
];

/** A close with both signatures. */
export const closed = (tx: Tx, script: ChannelScript, payee: Uint8Array, payer: Uint8Array): Uint8Array =>
  serialize(tx, witness(script.pay, payee, payer));

export interface Refund {
  tx: Tx;
  raw: Uint8Array;
  feeSat: number;
  returnedSat: number;
}

/** All of an output back, after the expiry, at so many sat for each vB; nothing if too little is left. */
export const signRefund = (
  input: Outpoint, script: ChannelScript, expiry: number, to: Uint8Array, secret: Uint8Array, feerate: number,
): Refund | undefined => {
  const make = (sat: number): Tx => ({ version: 2, locktime: expiry, input, outputs: [{ sat, script: to }] });
  const feeSat = vsize(make(DUST), witness(script.refund, new Uint8Array(64))) * feerate;
  const returnedSat = input.sat - feeSat;
  if (returnedSat < DUST) return undefined;
  const tx = make(returnedSat);
  const signature = sign(sighash(tx, DEFAULT, script.refund.hash), secret);
  return { tx, raw: serialize(tx, witness(script.refund, signature)), feeSat, returnedSat };
};
