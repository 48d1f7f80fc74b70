// The page's channel, from a bid to the close. Every step is kept before the next, so that a
// reload goes on where it was.

import { hex } from "./bytes.ts";
import { Refused, type SignedOffer, type View } from "./api.ts";
import { newCode } from "./keys.ts";
import type { Tariff } from "./messages.ts";
import type { SignedReceipt } from "./receipt.ts";
import { scriptOf } from "./script.ts";
import { type Kept, isDurable, store } from "./store.ts";
import { at, btc, hours, put, qr, sat, say, show } from "./view.ts";
import * as wallet from "./wallet.ts";

const EVERY_MS = 500;

/** As the rules of the network aim at. */
const BLOCKS_AN_HOUR = 6;

/** States of a channel from which nothing follows. */
const OVER = ["closed_together", "closed_alone", "refunded", "spent_otherwise", "funding_lost"];

/** The offer that holds, and the bargain over it. */
let standing: { list: Tariff; on: SignedOffer; round: number } | undefined;
let code = store.load()?.code ?? newCode();
let shownRefund = "";

const input = (id: string): HTMLInputElement => at<HTMLInputElement>(id);

const price = (tariff: Tariff): string => {
  const of = (msat: number, per: string): string[] => (msat ? [say("per", `${msat / 1_000} sat`, say(per))] : []);
  const { uplink_msat_per_mib: up, downlink_msat_per_mib: down, msat_per_minute: minute } = tariff;
  const bytes = up === down ? of(up, "mib") : [...of(up, "mib_up"), ...of(down, "mib_down")];
  return [...bytes, ...of(minute, "minute")].join(" + ") || say("free");
};

const fail = (error: unknown): void => {
  const text = error instanceof wallet.Dishonest ? say("dishonest", error.message)
    : error instanceof Error ? error.message : String(error);
  put("pay-error", text);
  show("pay-error", true);
};

/** Does what a button asks for, once at a time. */
const on = (id: string, kind: "click" | "submit", act: () => Promise<void> | void): void => {
  at(id).addEventListener(kind, async (event) => {
    event.preventDefault();
    const button = event instanceof SubmitEvent ? event.submitter : at(id);
    button?.setAttribute("disabled", "");
    show("pay-error", false);
    try {
      await act();
    } catch (error) {
      fail(error);
    } finally {
      button?.removeAttribute("disabled");
    }
  });
};

const bargain = async (): Promise<void> => {
  const stale = !standing || standing.on.offer.valid_until_unix_s * 1_000 < Date.now();
  if (stale) {
    const offer = await wallet.askOffer();
    standing = { list: offer.offer.tariff, on: offer, round: 0 };
  }
  const { list, on, round } = standing!;
  const kept = { code, change: "", capSat: 0 };
  try {
    const percent = Number(input("bid").value);
    const answer = await wallet.bid(list, on, round + 1, percent, wallet.keys(kept));
    standing = { list, on: { ...on, offer: answer.offer, signature: answer.signature }, round: round + 1 };
    put("bid-said", say(`bid_${answer.verdict}`, price(answer.offer.tariff)));
    at("bid-said").dataset["verdict"] = answer.verdict;
    input("bid-go").disabled = answer.rounds_left === 0;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    put("bid-said", error.message);
  }
};

const begin = (): void => {
  const network = at("way-page").dataset["network"] ?? "bitcoin";
  const change = scriptOf(input("refund-to").value, network);
  if (!change) throw new Error(say("wrong_address"));
  const capSat = Math.floor(Number(input("cap").value));
  store.save({ code, change: hex(change), capSat });
  draw(store.load());
};

const saved = async (): Promise<void> => {
  const kept = store.load();
  if (!kept) return;
  const offer = standing?.on ?? (await wallet.askOffer(at("way-page").dataset["network"]));
  draw(await wallet.open(kept, offer));
};

const resume = async (): Promise<void> => {
  const kept = await wallet.resume(input("resume-code").value);
  if (!kept) throw new Error(say("wrong_code"));
  code = kept.code;
  draw(kept);
};

const again = (): void => {
  store.clear();
  [standing, code, shownRefund] = [undefined, newCode(), ""];
  put("bid-said", "");
  draw(undefined);
};

/** The part of the page for this step. */
const draw = (kept: Kept | undefined): void => {
  const isOpened = Boolean(kept?.opened);
  show("pay-start", !kept);
  show("resume", !kept);
  show("pay-code", Boolean(kept) && !isOpened);
  show("pay-fund", isOpened && !kept?.outpoint);
  show("pay-run", Boolean(kept?.outpoint));
  show("pay-keep", isOpened);
  if (kept) {
    put("code", kept.code);
    put("code-again", kept.code);
    if (!isOpened) at("code-qr").replaceChildren(qr(kept.code.toUpperCase(), say("code")));
  }
  if (kept?.opened && !kept.outpoint) drawFunding(kept);
  if (kept?.outpoint) drawRefunds(kept);
  if (kept?.closed) drawClosed(kept);
  show("pay-open", !kept?.closed);
  show("pay-closed", Boolean(kept?.closed));
};

const drawFunding = ({ opened, capSat, earlySat }: Kept): void => {
  const { address, agreement } = opened!;
  const { min_capacity_sat: least, max_capacity_sat: most, max_close_fee_sat: fee } = agreement.terms;
  const amount = Math.min(Math.max(least, capSat + fee), most);
  const uri = `bitcoin:${address}?amount=${btc(amount)}&label=BitMesh`;
  if (at<HTMLAnchorElement>("fund-uri").href === uri) return;
  put("fund-amount", sat(amount));
  put("fund-early", say("fund_early", sat(earlySat ?? 0)));
  show("fund-early", Boolean(earlySat));
  put("fund-address", address);
  at<HTMLAnchorElement>("fund-uri").href = uri;
  at("fund-qr").replaceChildren(qr(uri, say("fund")));
};

const drawRefunds = (kept: Kept): void => {
  if (shownRefund === kept.outpoint) return;
  shownRefund = kept.outpoint!;
  put("refund-from", String(kept.opened!.agreement.terms.expiry_height + 1));
  const list = wallet.refunds(kept).map((refund) => {
    const item = document.createElement("li");
    const title = document.createElement("p");
    title.textContent = `${refund.feerate} sat/vB: ${sat(refund.returnedSat)}`;
    const raw = document.createElement("code");
    raw.className = "raw";
    raw.dir = "ltr";
    // Some need the keyboard to scroll it.
    raw.tabIndex = 0;
    raw.setAttribute("role", "region");
    raw.setAttribute("aria-label", title.textContent);
    raw.textContent = hex(refund.raw);
    item.append(title, raw, qr(hex(refund.raw).toUpperCase(), `${refund.feerate} sat/vB`));
    return item;
  });
  at("refunds").replaceChildren(...list);
};

/** From when on the visitor depends on nobody: as the gateway says, so that it can be compared. */
const drawUntil = ({ opened }: Kept, tip: number): void => {
  const from = opened!.agreement.terms.expiry_height + 1;
  put("fund-until", say("fund_until", String(from), hours((from - tip) / BLOCKS_AN_HOUR), String(tip)));
};

/** Both sides' receipt, to save or to copy: pop-up windows of phones may not save files. */
const drawReceipt = (receipt: SignedReceipt | undefined): void => {
  show("receipt", Boolean(receipt));
  show("no-receipt", !receipt);
  if (!receipt) return;
  const text = `${JSON.stringify(receipt, undefined, 2)}\n`;
  const [link, area] = [at<HTMLAnchorElement>("receipt-save"), at<HTMLTextAreaElement>("receipt-text")];
  if (area.value === text) return;
  area.value = text;
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = `receipt-${receipt.receipt.agreement}.json`;
};

const drawClosed = ({ closed, receipt }: Kept): void => {
  const { returned_sat, settled_sat, fee_sat, txid } = closed!;
  put("closed-said", say("closed", sat(returned_sat), sat(settled_sat), sat(fee_sat)));
  put("close-txid", txid);
  drawReceipt(receipt);
};

/** The balance may be served to the address that this device had before. */
const drawElsewhere = (kept: Kept, { mac, state }: View): void => {
  const here = at("way-page").dataset["mac"]!;
  put("pay-elsewhere-said", say("elsewhere", mac, here));
  show("pay-elsewhere", mac !== here && !kept.closed && ["open", "unconfirmed"].includes(state));
};

const live = async (): Promise<void> => {
  const standing = await wallet.tick();
  if (!standing) return;
  const { kept, view, isSpent } = standing;
  draw(kept);
  drawUntil(kept, view.tip_height);
  const status = view.notice ?? {
    opened: say("waiting"),
    unconfirmed: say("unconfirmed", String(view.confirmations), String(view.required)),
    open: isSpent ? say("spent") : say("paying", sat(wallet.creditOf(kept)), sat(kept.capSat)),
  }[view.state] ?? say("ended");
  put("pay-status", status);
  at("pay-status").dataset["state"] = isSpent ? "spent" : view.state;
  show("pay-status", !kept.closed);
  drawElsewhere(kept, view);
  show("again", OVER.includes(view.state));
};

const loop = async (): Promise<void> => {
  try {
    await live();
    show("pay-lost", false);
  } catch (error) {
    // The gateway may be starting again; what it refuses is said.
    if (error instanceof TypeError || (error instanceof DOMException)) show("pay-lost", true);
    else fail(error);
  }
  setTimeout(loop, EVERY_MS);
};

on("bid-go", "click", bargain);
on("pay-start", "submit", begin);
on("code-saved", "click", saved);
on("resume", "submit", resume);
on("relay", "click", async () => {
  const kept = store.load();
  if (kept) await wallet.relay(kept, at<HTMLTextAreaElement>("raw-tx").value);
});
on("raise", "submit", () => draw(wallet.raise(Math.floor(Number(input("raise-by").value)))));
on("close", "click", async () => draw(await wallet.close()));
on("move", "click", () => wallet.move(at("way-page").dataset["mac"]!));
on("again", "click", again);
at("bid").addEventListener("input", () => put("bid-percent", `${input("bid").value} %`));

show("pay-unkept", !isDurable);
show("way-page", true);
draw(store.load());
void loop();
