// What the browser keeps of a channel. All tabs of the page share it.

import type { Closed, Opened, Update } from "./api.ts";
import type { Seen } from "./heights.ts";
import type { SignedReceipt } from "./receipt.ts";

export interface Kept {
  /** The resume code: the keys. */
  code: string;
  /** Where the rest goes, as a script. */
  change: string;
  /** Nothing is signed beyond this. */
  capSat: number;
  opened?: Opened;
  confirmations?: number;
  /** What the gateway credits before the funding is confirmed, at most. */
  earlySat?: number;
  /** The funding that was pinned. */
  outpoint?: string;
  capacitySat?: number;
  /** The newest update that was signed: kept before it is sent. */
  newest?: Update;
  closed?: Closed;
  /** What both sides signed at the end. */
  receipt?: SignedReceipt;
}

const NAME = "bitmesh-channel";

/** The browser's storage; nothing if it has none for this page, or none that takes anything. */
const durable = ((): Storage | undefined => {
  try {
    localStorage.setItem("bitmesh-try", "1");
    localStorage.removeItem("bitmesh-try");
    return localStorage;
  } catch {
    return undefined;
  }
})();

/** Whether what is saved outlives the page. */
export const isDurable = durable !== undefined;

const memory = new Map<string, string>();
const read = (name: string): string | null => (durable ? durable.getItem(name) : (memory.get(name) ?? null));
const write = (name: string, text: string): unknown =>
  durable ? durable.setItem(name, text) : memory.set(name, text);

export const store = {
  load(): Kept | undefined {
    const text = read(NAME);
    return text ? (JSON.parse(text) as Kept) : undefined;
  },
  save(kept: Kept): void {
    write(NAME, JSON.stringify(kept));
  },
  /** What was seen of a network's chain. It outlives the channel. */
  seen(network: string): Seen | undefined {
    const text = read(`bitmesh-chain-${network}`);
    return text ? (JSON.parse(text) as Seen) : undefined;
  },
  saw(network: string, seen: Seen): void {
    write(`bitmesh-chain-${network}`, JSON.stringify(seen));
  },
  clear(): void {
    durable?.removeItem(NAME);
    memory.delete(NAME);
  },
};
