// What the browser keeps of a channel. All tabs of the page share it.

import type { Closed, Opened, Update } from "./api.ts";

export interface Kept {
  /** The resume code: the keys. */
  code: string;
  /** Where the rest goes, as a script. */
  change: string;
  /** Nothing is signed beyond this. */
  capSat: number;
  opened?: Opened;
  confirmations?: number;
  /** The funding that was pinned. */
  outpoint?: string;
  capacitySat?: number;
  /** The newest update that was signed: kept before it is sent. */
  newest?: Update;
  closed?: Closed;
}

const NAME = "bitmesh-channel";

export const store = {
  load(): Kept | undefined {
    const text = localStorage.getItem(NAME);
    return text ? (JSON.parse(text) as Kept) : undefined;
  },
  save(kept: Kept): void {
    localStorage.setItem(NAME, JSON.stringify(kept));
  },
  clear(): void {
    localStorage.removeItem(NAME);
  },
};
