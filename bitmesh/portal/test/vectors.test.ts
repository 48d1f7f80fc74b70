// The page's channel against the project's vectors: every script, hash, signature and transaction.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { secp256k1 } from "@noble/curves/secp256k1.js";

import { hex, join, unhex } from "../src/bytes.ts";
import { closeTx, closed, isCloseSigned, isUpdate, signClose, signRefund, signUpdate, updateTx, updateType } from "../src/channel.ts";
import { FIELDS, digest, isSigned, signMessage } from "../src/messages.ts";
import { isReceiptOf, isSignedByBoth } from "../src/receipt.ts";
import { type ChannelScript, addressOf, channelScript, scriptOf } from "../src/script.ts";
import { DEFAULT, type Outpoint, serialize, sighash, txid } from "../src/tx.ts";

const path = process.env["BITMESH_VECTORS"];
assert.ok(path, "BITMESH_VECTORS names the vectors");
// eslint-disable-next-line @typescript-eslint/no-explicit-any
const vectors: any = JSON.parse(readFileSync(path, "utf8"));

// eslint-disable-next-line @typescript-eslint/no-explicit-any
type Vector = any;

/** The secrets of a vector: BIP 32 from its seed, hardened at every step, as `channel/keys.rs` says. */
const secretOf = (seed: string, network: string, index: number, usage: number): Uint8Array => {
  const split = (key: string | Uint8Array, data: Uint8Array): Uint8Array[] => {
    const made = createHmac("sha512", key).update(data).digest();
    return [Uint8Array.from(made.subarray(0, 32)), Uint8Array.from(made.subarray(32))];
  };
  let [key, chain] = split("Bitcoin seed", unhex(seed));
  for (const step of [0x424d, network === "bitcoin" ? 0 : 1, index, usage]) {
    const number = Buffer.alloc(4);
    number.writeUInt32BE(step + 0x80000000);
    const [tweak, next] = split(chain!, join(Uint8Array.of(0), key!, number));
    const sum = (BigInt(`0x${hex(tweak!)}`) + BigInt(`0x${hex(key!)}`)) % secp256k1.Point.Fn.ORDER;
    [key, chain] = [unhex(sum.toString(16).padStart(64, "0")), next];
  }
  return key!;
};

const channels = new Map<string, { vector: Vector; script: ChannelScript; input: Outpoint; secret: Uint8Array }>(
  vectors.channels.map((vector: Vector) => {
    const { payer_key, payee_key, expiry_height } = vector.terms;
    const script = channelScript(payer_key, payee_key, expiry_height);
    const input = { at: vector.outpoint, sat: vector.capacity_sat, script: script.script };
    const secret = secretOf(vector.payer_seed, vector.terms.network, vector.index, 0);
    return [vector.name, { vector, script, input, secret }];
  }),
);

test("every channel has the script, the leaves and the address of the vectors", () => {
  assert.ok(channels.size >= 4);
  for (const { vector, script } of channels.values()) {
    assert.equal(hex(script.script), vector.script_pubkey);
    assert.equal(hex(script.pay.script), vector.pay_leaf);
    assert.equal(hex(script.refund.script), vector.refund_leaf);
    assert.equal(hex(script.pay.control), vector.pay_control_block);
    assert.equal(hex(script.refund.control), vector.refund_control_block);
    for (const [network, address] of Object.entries<string>(vector.addresses)) {
      assert.equal(addressOf(script.script, network), address);
      assert.deepEqual(scriptOf(address.toUpperCase(), network), script.script);
      assert.equal(scriptOf(`${address.slice(0, -1)}q`, network), undefined);
    }
  }
});

test("every update has the template, the hash and the signature of the vectors", () => {
  let updates = 0;
  for (const { vector, script, input, secret } of channels.values()) {
    for (const update of vector.updates) {
      const tx = updateTx(input, update.change_sat, unhex(vector.terms.change_script));
      assert.equal(hex(serialize(tx)), update.template);
      const hash = sighash(tx, updateType(update.change_sat), script.pay.hash);
      assert.equal(hex(hash), update.sighash);
      const payer = unhex(vector.terms.payer_key);
      assert.equal(hex(signUpdate(tx, script, secret)), update.signature);
      assert.ok(isUpdate(tx, script, payer, unhex(update.signature)));
      const forged = unhex(update.signature);
      forged[3] = (forged[3] ?? 0) ^ 1;
      assert.ok(!isUpdate(tx, script, payer, forged));
      updates++;
    }
  }
  assert.ok(updates >= 8, `${updates}`);
});

/** The signatures before the pay leaf in a transaction's witness. */
const signaturesOf = (raw: string, script: ChannelScript): Uint8Array[] => {
  const signatures = [];
  let end = raw.lastIndexOf(hex(script.pay.script)) - 2;
  for (; raw.slice(end - 130, end - 128) === "40"; end -= 130) {
    signatures.unshift(unhex(raw.slice(end - 128, end)));
  }
  return signatures;
};

test("every close by the pay leaf is the vector's, hash and bytes", () => {
  let closes = 0;
  for (const close of vectors.cooperative.filter((one: Vector) => one.path === "pay_leaf")) {
    const channel = channels.get(close.channel);
    assert.ok(channel);
    const { vector, script, input, secret } = channel;
    const change = { sat: close.change_sat, script: unhex(vector.terms.change_script) };
    const payout = { sat: close.payout_sat, script: unhex(vector.terms.payout_script) };
    const tx = closeTx(input, change, payout);
    assert.equal(hex(serialize(tx)), close.unsigned);
    assert.equal(txid(tx), close.tx.txid);
    const hash = sighash(tx, DEFAULT, script.pay.hash);
    assert.equal(hex(hash), close.tx.sighashes[0]);
    const [payee, payer] = signaturesOf(close.tx.raw, script);
    assert.ok(payee && payer);
    assert.equal(hex(signClose(tx, script, secret)), hex(payer));
    assert.ok(isCloseSigned(tx, script, unhex(vector.terms.payee_key), payee));
    assert.ok(!isCloseSigned(tx, script, unhex(vector.terms.payee_key), payer));
    assert.equal(hex(closed(tx, script, payee, payer)), close.tx.raw);
    closes++;
  }
  assert.ok(closes >= 4, `${closes}`);
});

test("every refund of one output is the vector's, signature included", () => {
  let refunds = 0;
  for (const refund of vectors.refunds) {
    const channel = channels.get(refund.channel);
    assert.ok(channel);
    if (refund.tx.prevouts.length > 1) continue;
    const { vector, script, input, secret } = channel;
    const to = unhex(vector.terms.change_script);
    const spent = { ...input, sat: refund.tx.prevouts[0].amount_sat };
    const feerate = refund.fee_sat / refund.tx.vsize;
    const made = signRefund(spent, script, vector.terms.expiry_height, to, secret, feerate);
    assert.ok(made);
    assert.equal(made.returnedSat, refund.returned_sat);
    assert.equal(txid(made.tx), refund.tx.txid);
    assert.equal(hex(sighash(made.tx, DEFAULT, script.refund.hash)), refund.tx.sighashes[0]);
    assert.equal(hex(made.raw), refund.tx.raw);
    refunds++;
  }
  assert.ok(refunds >= 4, `${refunds}`);
});

test("every message has the fields, the digest and signatures that hold", () => {
  const known = Object.keys(FIELDS) as (keyof typeof FIELDS)[];
  for (const tag of known) {
    const vector = vectors.messages.find((one: Vector) => one.tag === tag);
    assert.ok(vector, tag);
    assert.equal(hex((FIELDS[tag] as (message: Vector) => Uint8Array)(vector.message)), vector.serialized);
    assert.equal(digest(tag, vector.message), vector.digest);
    for (const { key, signature } of vector.signatures) {
      assert.ok(isSigned(tag, vector.message, key, signature));
      const other = signature.startsWith("0") ? "1" : "0";
      assert.ok(!isSigned(tag, vector.message, key, other + signature.slice(1)));
    }
  }
});

test("the page signs the receipt of the vectors, and takes no other for this close", () => {
  const message = (tag: string): Vector => vectors.messages.find((one: Vector) => one.tag === tag);
  const agreement = message("BitMesh/agreement/v1").message;
  const { message: receipt, signatures } = message("BitMesh/receipt/v1");
  const of = (key: string): string => signatures.find((one: Vector) => one.key === key).signature;
  const payer_signature = of(agreement.payer_session_key);
  // The payer's session key has the usage 2 (`channel/keys.rs`).
  const session = secretOf("66".repeat(32), agreement.terms.network, 1, 2);
  assert.equal(signMessage("BitMesh/receipt/v1", receipt, session), payer_signature);

  const signed = { agreement, receipt, payer_signature, payee_signature: of(agreement.payee_session_key) };
  assert.ok(isSignedByBoth(signed));
  assert.ok(!isSignedByBoth({ ...signed, payer_signature: signed.payee_signature }));
  assert.ok(!isSignedByBoth({ ...signed, payee_signature: payer_signature }));
  assert.ok(!isSignedByBoth({ ...signed, agreement: { ...agreement, mac: "02:00:00:00:00:b1" } }));

  const sat = receipt.settled_sat + receipt.returned_sat + receipt.fee_sat;
  const input = { at: receipt.outpoint, sat, script: new Uint8Array() };
  const settled = {
    input, charges: 25_001, change: receipt.returned_sat, payout: receipt.settled_sat, txid: receipt.close_txid,
  };
  assert.ok(isReceiptOf(receipt, agreement, settled));
  assert.ok(isReceiptOf({ ...receipt, charged_msat: 25_000_500 }, agreement, settled), "the same, rounded up");
  for (const [name, other] of Object.entries({
    agreement: "00".repeat(32), outpoint: `${receipt.close_txid}:0`, close_txid: "00".repeat(32),
    charged_msat: 25_001_001, settled_sat: 25_002, returned_sat: 74_690, fee_sat: 309,
  })) {
    assert.ok(!isReceiptOf({ ...receipt, [name]: other }, agreement, settled), name);
  }
});
