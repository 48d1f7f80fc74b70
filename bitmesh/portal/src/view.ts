// Elements of the page, and what is drawn into them. All words come from the gateway.

import { encode } from "uqr";

export const at = <T extends HTMLElement = HTMLElement>(id: string): T => {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no ${id}`);
  return found as T;
};

const words = JSON.parse(at("way-page").dataset["words"] ?? "{}") as Record<string, string>;

/** A sentence of the page's language, with values in its places. */
export const say = (key: string, ...values: string[]): string => {
  const parts = (words[key] ?? key).split("{}");
  return parts.map((part, index) => part + (index < parts.length - 1 ? (values[index] ?? "") : "")).join("");
};

export const put = (id: string, text: string): void => {
  const element = at(id);
  if (element.textContent !== text) element.textContent = text;
};

export const show = (id: string, visible: boolean): void => {
  at(id).hidden = !visible;
};

const SVG = "http://www.w3.org/2000/svg";

/** A QR code as a picture. */
export const qr = (text: string, label: string): SVGSVGElement => {
  const { data, size } = encode(text, { ecc: "L", border: 2 });
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${size} ${size}`);
  svg.setAttribute("class", "qr");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const dots = data.flatMap((row, y) => row.flatMap((dark, x) => (dark ? [`M${x} ${y}h1v1h-1z`] : [])));
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", dots.join(""));
  svg.append(path);
  return svg;
};

/** Satoshi for people. */
export const sat = (amount: number): string => `${amount.toLocaleString(document.documentElement.lang)} sat`;

/** About so many hours, or days if they are many. */
export const hours = (count: number): string => {
  const [unit, value] = count < 48 ? ["hour", count] : ["day", count / 24];
  const style = { style: "unit", unit, unitDisplay: "long", maximumFractionDigits: 0 } as const;
  return new Intl.NumberFormat(document.documentElement.lang, style).format(Math.max(Math.ceil(value), 1));
};

/** Bitcoin, as BIP 21 writes it. */
export const btc = (amount: number): string => (amount / 1e8).toFixed(8).replace(/\.?0+$/, "");
