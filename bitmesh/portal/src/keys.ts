// The resume code, and the keys of one channel behind it.

import { secp256k1 } from "@noble/curves/secp256k1.js";
import { bech32m } from "@scure/base";

import { hex, tagged } from "./bytes.ts";

const PREFIX = "bitmesh";
const SEED_BYTES = 16;

export interface Keys {
  /** C's secret: signs updates, closes and refunds. */
  channel: Uint8Array;
  /** The session's: signs messages. */
  session: Uint8Array;
  channelKey: string;
  sessionKey: string;
}

/** A new code: whoever has it has the money. */
export const newCode = (): string => {
  const seed = crypto.getRandomValues(new Uint8Array(SEED_BYTES));
  return bech32m.encode(PREFIX, bech32m.toWords(seed));
};

/** The keys of a code; nothing if it is none, or was mistyped. */
export const keysOf = (code: string): Keys | undefined => {
  const typed = code.replaceAll(/\s/g, "").toLowerCase();
  const found = bech32m.decodeUnsafe(typed as `${string}1${string}`, 90);
  const seed = found?.prefix === PREFIX && bech32m.fromWordsUnsafe(found.words);
  if (!seed || seed.length !== SEED_BYTES) return undefined;
  const secret = (what: string): Uint8Array => tagged(`BitMesh/page/${what}/v1`, Uint8Array.from(seed));
  const [channel, session] = [secret("channel"), secret("session")];
  const publicOf = (secret: Uint8Array): string => hex(secp256k1.getPublicKey(secret, true));
  return { channel, session, channelKey: publicOf(channel), sessionKey: publicOf(session) };
};
