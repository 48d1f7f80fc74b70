// Whether a height that the gateway names can be true. When a refund can be mined follows from it,
// and a page in a walled garden can ask nobody else: it has its clock and what it saw before.

/** What was seen of one network's chain. */
export interface Seen {
  /** The first height, and when that was, in ms since 1970. */
  first: number;
  firstAtMs: number;
  /** The highest so far. */
  highest: number;
}

/** A reorganisation takes back no more blocks than this. */
const MAX_STEP_BACK = 6;

/** A block of the main chain, and when it was found, in ms since 1970. */
const KNOWN = { height: 840_000, atMs: 1_713_571_767_000 };

/** Blocks of years come no faster than this; ten minutes is what the rules aim at. */
const FASTEST_OF_YEARS_MS = 540_000;

/** Blocks of hours come no faster than this. */
const FASTEST_OF_HOURS_MS = 300_000;

/** Blocks that may have come at once. */
const AT_ONCE = 24;

const most = (from: number, ms: number, each: number): number => from + AT_ONCE + Math.max(ms, 0) / each;

/** Whether the newest block of this network can have this height now. Test networks have no pace. */
export const isPlausible = (network: string, height: number, seen: Seen | undefined, nowMs: number): boolean => {
  if (!Number.isSafeInteger(height) || height < 0) return false;
  if (seen && height < seen.highest - MAX_STEP_BACK) return false;
  if (network !== "bitcoin") return true;
  if (height < KNOWN.height || height > most(KNOWN.height, nowMs - KNOWN.atMs, FASTEST_OF_YEARS_MS)) return false;
  return !seen || height <= most(seen.first, nowMs - seen.firstAtMs, FASTEST_OF_HOURS_MS);
};

/** What is known once a plausible height was seen. */
export const grown = (height: number, seen: Seen | undefined, nowMs: number): Seen =>
  seen ? { ...seen, highest: Math.max(seen.highest, height) } : { first: height, firstAtMs: nowMs, highest: height };
