// What the page believes of the chain's height.

import assert from "node:assert/strict";
import { test } from "node:test";

import { grown, isPlausible } from "../src/heights.ts";

const DAY_MS = 86_400_000;
/** Two years after the block that the page knows: some 105,000 blocks later. */
const NOW = 1_713_571_767_000 + 730 * DAY_MS;
const TIP = 945_120;

test("the height of the main chain fits the clock", () => {
  assert.ok(isPlausible("bitcoin", TIP, undefined, NOW));
  assert.ok(isPlausible("bitcoin", TIP + 5_000, undefined, NOW));
  assert.ok(!isPlausible("bitcoin", 2_000_000, undefined, NOW));
  assert.ok(!isPlausible("bitcoin", TIP + 20_000, undefined, NOW));
  assert.ok(!isPlausible("bitcoin", 839_999, undefined, NOW));
  for (const odd of [-1, 0.5, NaN, 2 ** 53]) assert.ok(!isPlausible("bitcoin", odd, undefined, NOW), `${odd}`);
});

test("the height never falls below what was seen, but for a reorganisation", () => {
  for (const network of ["bitcoin", "regtest"]) {
    const seen = grown(TIP + 3, grown(TIP, undefined, NOW), NOW);
    assert.equal(seen.first, TIP);
    assert.ok(isPlausible(network, TIP + 3 - 6, seen, NOW));
    assert.ok(!isPlausible(network, TIP + 3 - 7, seen, NOW));
    assert.equal(grown(TIP - 2, seen, NOW).highest, TIP + 3);
  }
});

test("the height does not creep up faster than blocks come", () => {
  let seen = grown(TIP, undefined, NOW);
  assert.ok(isPlausible("bitcoin", TIP + 24, seen, NOW));
  seen = grown(TIP + 24, seen, NOW);
  assert.ok(!isPlausible("bitcoin", TIP + 25, seen, NOW), "again at once");
  assert.ok(isPlausible("bitcoin", TIP + 24 + 144, seen, NOW + DAY_MS));
  assert.ok(!isPlausible("bitcoin", TIP + 24 + 289, seen, NOW + DAY_MS));
});

test("a test network has no pace", () => {
  assert.ok(isPlausible("regtest", 102, undefined, NOW));
  assert.ok(isPlausible("regtest", 5_000, grown(102, undefined, NOW), NOW));
});
