// The receipt of a session: what both sides sign at its end, and anybody can check offline.

import type { Outpoint } from "./tx.ts";
import { type Agreement, type Receipt, digest, isSigned } from "./messages.ts";

/** As `bitmesh receipt verify` reads it. */
export interface SignedReceipt {
  agreement: Agreement;
  receipt: Receipt;
  payee_signature: string;
  payer_signature: string;
}

/** What a close pays, and its name. */
export interface Settled {
  input: Outpoint;
  charges: number;
  change: number;
  payout: number;
  txid: string;
}

/** Whether a receipt says what the close that is signed with it pays. */
export const isReceiptOf = (receipt: Receipt, agreement: Agreement, settled: Settled): boolean =>
  receipt.agreement === digest("BitMesh/agreement/v1", agreement) &&
  receipt.outpoint === settled.input.at &&
  receipt.close_txid === settled.txid &&
  Math.ceil(receipt.charged_msat / 1_000) === settled.charges &&
  receipt.settled_sat === settled.payout &&
  receipt.returned_sat === settled.change &&
  receipt.fee_sat === settled.input.sat - settled.change - settled.payout;

/** Whether both sides signed it, and it is of its agreement. */
export const isSignedByBoth = ({ agreement, receipt, payee_signature, payer_signature }: SignedReceipt): boolean =>
  receipt.agreement === digest("BitMesh/agreement/v1", agreement) &&
  isSigned("BitMesh/receipt/v1", receipt, agreement.payee_session_key, payee_signature) &&
  isSigned("BitMesh/receipt/v1", receipt, agreement.payer_session_key, payer_signature);
