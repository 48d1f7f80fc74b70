// Bytes, hashes and numbers as bitcoin serialises them.

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, concatBytes, hexToBytes } from "@noble/hashes/utils.js";

export { bytesToHex as hex, concatBytes as join, hexToBytes as unhex, sha256 };

/** A whole number, little-endian, in so many bytes. */
export const le = (value: number | bigint, size: number): Uint8Array => {
  let rest = BigInt(value);
  if (rest < 0n || rest >> BigInt(8 * size)) throw new Error(`${value} does not fit ${size} bytes`);
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at++, rest >>= 8n) bytes[at] = Number(rest & 0xffn);
  return bytes;
};

/** A length before what has it (CompactSize). */
export const compact = (value: number): Uint8Array =>
  value < 0xfd ? le(value, 1) : value < 0x10000 ? join8(0xfd, le(value, 2)) : join8(0xfe, le(value, 4));

const join8 = (first: number, rest: Uint8Array): Uint8Array => concatBytes(Uint8Array.of(first), rest);

/** Bytes behind their length. */
export const sized = (bytes: Uint8Array): Uint8Array => concatBytes(compact(bytes.length), bytes);

/** SHA256(SHA256(tag) ‖ SHA256(tag) ‖ parts), as BIP 340 defines it. */
export const tagged = (tag: string, ...parts: Uint8Array[]): Uint8Array => {
  const name = sha256(new TextEncoder().encode(tag));
  return sha256(concatBytes(name, name, ...parts));
};

export const same = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, at) => byte === b[at]);

/** Orders byte strings as numbers of one length. */
export const order = (a: Uint8Array, b: Uint8Array): number => {
  for (let at = 0; at < a.length; at++) {
    const difference = (a[at] ?? 0) - (b[at] ?? 0);
    if (difference) return difference;
  }
  return 0;
};
