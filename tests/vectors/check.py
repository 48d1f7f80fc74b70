#!/usr/bin/env python3
"""Checks channel.json with an implementation of its own (bips.py), without the Rust code.

    check.py            every script, key, address, sighash, signature, size and amount
    check.py --mutate   also changes each value of the file in turn: no change may pass
"""

import copy
import json
import pathlib
import re
import sys

sys.dont_write_bytecode = True

from bips import (
    G, N, Tx, Wrong, bech32m, bip32_hardened, bytes32, cbytes, key_agg, mul, musig_session,
    need, partial_verify, scalar, schnorr_verify, script_number, sighash, tagged, tap_branch,
    tap_leaf, tap_tweak,
)

PREFIXES = {"bitcoin": "bc", "testnet": "tb", "signet": "tb", "regtest": "bcrt"}
MAGIC = {"bitcoin": "f9beb4d9", "testnet": "0b110907", "signet": "0a03cf40", "regtest": "fabfb5da"}
DUST = 330


def equal(got, want, what):
    need(got == want, f"{what}: {got} in the file, {want} computed")


def sat(amount):
    return amount.to_bytes(8, "little")


def channel_keys(channel):
    """BIP 32: m/16973'/coin'/index'/use', use 0 for the payer and 1 for the payee."""
    coin = 0 if channel["terms"]["network"] == "bitcoin" else 1
    for role, use in (("payer", 0), ("payee", 1)):
        seed = bytes.fromhex(channel[f"{role}_seed"])
        secret = bip32_hardened(seed, [0x424D, coin, channel["index"], use])
        equal(channel["terms"][f"{role}_key"], cbytes(mul(G, secret)).hex(), f"{role} key")


def check_terms(terms):
    need(36 <= terms["margin_blocks"] < terms["expiry_height"] < 500_000_000, "expiry")
    need(535 <= terms["min_first_update_sat"] <= terms["min_capacity_sat"], "first update")
    for script in (terms["change_script"], terms["payout_script"]):
        kinds = r"0014[0-9a-f]{40}|0020[0-9a-f]{64}|5120[0-9a-f]{64}"
        need(re.fullmatch(kinds, script), "script of an output")


def check_script(channel):
    terms = channel["terms"]
    payer, payee = (bytes.fromhex(terms[f"{role}_key"]) for role in ("payer", "payee"))
    pay = b"\x20" + payer[1:] + b"\xad\x20" + payee[1:] + b"\xac"
    refund = b"\x20" + payer[1:] + b"\xad" + script_number(terms["expiry_height"]) + b"\xb1"
    equal(channel["pay_leaf"], pay.hex(), "pay leaf")
    equal(channel["refund_leaf"], refund.hex(), "refund leaf")
    equal(len(pay), 68, "size of the pay leaf")
    root = tap_branch(tap_leaf(pay), tap_leaf(refund))
    equal(channel["merkle_root"], root.hex(), "root")
    internal = bytes32(key_agg([payer, payee])[0][0])
    equal(channel["internal_key"], internal.hex(), "internal key")
    _, output, odd = tap_tweak(internal, root)
    equal(channel["output_key"], output.hex(), "output key")
    equal(channel["script_pubkey"], "5120" + output.hex(), "script")
    head = bytes([0xC0 | odd]) + internal
    equal(channel["pay_control_block"], (head + tap_leaf(refund)).hex(), "control block")
    equal(channel["refund_control_block"], (head + tap_leaf(pay)).hex(), "control block")
    addresses = {net: bech32m(prefix, 1, output) for net, prefix in PREFIXES.items()}
    equal(channel["addresses"], addresses, "addresses")
    equal(channel["address"], addresses[terms["network"]], "address")
    c, r = payer[1:].hex(), payee[1:].hex()
    after = f"and_v(v:pk({c}),after({terms['expiry_height']}))"
    descriptor = f"tr({internal.hex()},{{and_v(v:pk({c}),pk({r})),{after}}})"
    equal(channel["descriptor"], descriptor, "descriptor")


def check_funding(channel):
    terms, capacity = channel["terms"], channel["capacity_sat"]
    tx = Tx(bytes.fromhex(channel["funding_tx"]))
    need(tx.inputs, "funding without input")
    script = bytes.fromhex(channel["script_pubkey"])
    first = next(vout for vout, output in enumerate(tx.outputs) if output[1] == script)
    equal(channel["outpoint"], f"{tx.txid()}:{first}", "outpoint")
    equal(sat(capacity), tx.outputs[first][0], "capacity")
    need(terms["min_capacity_sat"] <= capacity <= terms["max_capacity_sat"], "bounds")
    need(terms["max_capacity_sat"] <= 100_000_000, "limit")
    whole, part = divmod(capacity, 100_000_000)
    amount = f"{whole}.{part:08}".rstrip("0").rstrip(".")
    uri = f"bitcoin:{channel['address']}?amount={amount}&label=BitMesh"
    equal(channel["uri"], uri, "URI")


def outpoint_bytes(text):
    txid, vout = text.split(":")
    return bytes.fromhex(txid)[::-1] + int(vout).to_bytes(4, "little")


def template(channel, change):
    """{version 3, locktime 0, the input with sequence 0xfffffffd, output 0 = change}."""
    spend = b"\1" + outpoint_bytes(channel["outpoint"]) + b"\0" + b"\xfd\xff\xff\xff"
    script = bytes.fromhex(channel["terms"]["change_script"])
    outputs = b"\1" + sat(change) + bytes([len(script)]) + script if change else b"\0"
    return bytes([3, 0, 0, 0]) + spend + outputs + bytes(4)


def check_update(channel, update):
    change, signature = update["change_sat"], bytes.fromhex(update["signature"])
    need(change == 0 or DUST <= change <= channel["capacity_sat"], "change")
    equal(update["template"], template(channel, change).hex(), "template")
    equal(len(signature), 65, "size of the signature")
    equal(signature[64], 0x83 if change else 0x82, "hash type")
    tx = Tx(bytes.fromhex(update["template"]))
    prevout = (sat(channel["capacity_sat"]), bytes.fromhex(channel["script_pubkey"]))
    leaf = tap_leaf(bytes.fromhex(channel["pay_leaf"]))
    digest = sighash(tx, 0, [prevout], signature[64], leaf)
    equal(update["sighash"], digest.hex(), "sighash")
    payer = bytes.fromhex(channel["terms"]["payer_key"])[1:]
    need(schnorr_verify(payer, digest, signature[:64]), "signature of the update")


def check_channel(channel):
    channel_keys(channel)
    check_terms(channel["terms"])
    check_script(channel)
    check_funding(channel)
    equal(channel["index"], channel["index"] & 0x7FFFFFFF, "index")
    for update in channel["updates"]:
        check_update(channel, update)


def verify_leaf_spend(tx, index, prevouts, digest, channel):
    """Runs one of the two leaves (BIP 341, 342): the commitment, then the signatures."""
    *stack, script, block = tx.inputs[index]["witness"]
    terms = channel["terms"]
    payer, payee = (bytes.fromhex(terms[f"{role}_key"])[1:] for role in ("payer", "payee"))
    leaf = tap_leaf(script)
    equal(len(block), 65, "size of the control block")
    _, output, odd = tap_tweak(block[1:33], tap_branch(leaf, block[33:]))
    equal(block[0], 0xC0 | odd, "control block")
    equal(prevouts[index][1], b"\x51\x20" + output, "commitment")
    if script.hex() == channel["pay_leaf"]:
        signers = [(payer, stack[1]), (payee, stack[0])]
    else:
        equal(script.hex(), channel["refund_leaf"], "leaf")
        signers = [(payer, stack[0])]
        locktime = int.from_bytes(tx.locktime, "little")
        need(terms["expiry_height"] <= locktime < 500_000_000, "BIP 65: locktime")
        need(tx.inputs[index]["sequence"] != b"\xff" * 4, "BIP 65: sequence")
    equal(len(stack), len(signers), "stack")
    for key, signature in signers:
        hash_type = signature[64] if len(signature) == 65 else 0
        need(len(signature) == 64 or hash_type != 0, "BIP 341: hash type 0 is not written")
        signed = sighash(tx, index, prevouts, hash_type, leaf)
        need(schnorr_verify(key, signed, signature[:64]), "signature in a leaf")
    equal(digest, sighash(tx, index, prevouts, 0, leaf).hex(), "sighash")


def check_tx(vector, channels):
    """All that holds for any transaction; gives it and the channel of each input."""
    tx = Tx(bytes.fromhex(vector["raw"]))
    equal(vector["txid"], tx.txid(), "txid")
    equal(vector["wtxid"], tx.wtxid(), "wtxid")
    equal(vector["vsize"], tx.vsize(), "vsize")
    prevouts = [
        (sat(prevout["amount_sat"]), bytes.fromhex(prevout["script_pubkey"]))
        for prevout in vector["prevouts"]
    ]
    equal(len(prevouts), len(tx.inputs), "prevouts")
    equal(len(vector["sighashes"]), len(tx.inputs), "sighashes")
    spent = []
    for index, (spend, prevout) in enumerate(zip(tx.inputs, prevouts)):
        channel = next(c for c in channels.values() if c["script_pubkey"] == prevout[1].hex())
        funding = Tx(bytes.fromhex(channel["funding_tx"]))
        vout = int.from_bytes(spend["outpoint"][32:], "little")
        equal(spend["outpoint"][:32][::-1].hex(), funding.txid(), "what is spent")
        equal(prevout, funding.outputs[vout], "prevout")
        equal(spend["sequence"].hex(), "fdffffff", "sequence")
        equal(spend["script"], b"", "script of an input")
        if len(spend["witness"]) == 1:
            digest = sighash(tx, index, prevouts, 0)
            equal(vector["sighashes"][index], digest.hex(), "sighash")
            key = bytes.fromhex(channel["output_key"])
            need(schnorr_verify(key, digest, spend["witness"][0]), "signature of the key path")
        else:
            verify_leaf_spend(tx, index, prevouts, vector["sighashes"][index], channel)
        spent.append(channel)
    value = sum(prevout["amount_sat"] for prevout in vector["prevouts"])
    for amount, _ in tx.outputs:
        need(int.from_bytes(amount, "little") >= DUST, "dust")
    return tx, spent, value - tx.paid()


def expect_outputs(tx, outputs):
    wanted = [(sat(amount), bytes.fromhex(script)) for amount, script in outputs if amount]
    equal(tx.outputs, wanted, "outputs")


def check_unilateral(vector, channels, batch=False):
    tx, spent, fee = check_tx(vector["tx"], channels)
    equal(tx.version[0], 3, "version")
    equal(tx.locktime, bytes(4), "locktime")
    equal(vector["fee_sat"], fee, "fee")
    equal(fee, vector["feerate_sat_per_vb"] * tx.vsize(), "fee at the feerate")
    capacity = sum(channel["capacity_sat"] for channel in spent)
    parts = ("payout_sat", "returned_sat", "change_sat", "fee_sat")
    equal(sum(vector[part] for part in parts), capacity, "sum")
    changes = [
        spend["witness"][1][64] == 0x83 and int.from_bytes(tx.outputs[index][0], "little")
        for index, spend in enumerate(tx.inputs)
    ]
    equal(changes, sorted(changes, key=lambda change: not change), "inputs with change come first")
    equal(vector["change_sat"], sum(changes), "change")
    need(tx.vsize() <= 10_000, "BIP 431: size")
    if batch:
        names = sorted(vector["channels"])
        equal(names, sorted(channel["name"] for channel in spent), "channels")
        return
    channel = spent[0]
    equal(vector["channel"], channel["name"], "channel")
    terms = channel["terms"]
    change, payout = terms["change_script"], terms["payout_script"]
    outputs = [(vector["change_sat"], change), (vector["payout_sat"], payout)]
    expect_outputs(tx, outputs + [(vector["returned_sat"], change)])
    unused = capacity - vector["change_sat"] - vector["charges_sat"]
    equal(vector["unused_sat"], unused, "unused")
    worth = unused - vector["feerate_sat_per_vb"] * (9 + len(change) // 2)
    equal(vector["returned_sat"], worth if worth >= DUST else 0, "what is returned")


def check_batch(vector, channels):
    check_unilateral(vector, channels, batch=True)


def settle(channel, charges, fee):
    """Who gets what: the change pays the fee up to the limit; dust goes to the other side."""
    change = channel["capacity_sat"] - charges
    share = min(fee, channel["terms"]["max_close_fee_sat"], change)
    change, payout = change - share, charges - (fee - share)
    if payout < DUST:
        return 0, change + payout
    return (payout + change, 0) if change < DUST else (payout, change)


def check_cooperative(vector, channels):
    tx, [channel], fee = check_tx(vector["tx"], channels)
    equal(vector["channel"], channel["name"], "channel")
    equal(tx.version[0], 3, "version")
    equal(tx.locktime, bytes(4), "locktime")
    equal(vector["fee_sat"], fee, "fee")
    payout, change = settle(channel, vector["charges_sat"], fee)
    equal((vector["payout_sat"], vector["change_sat"]), (payout, change), "settlement")
    terms = channel["terms"]
    expect_outputs(tx, [(change, terms["change_script"]), (payout, terms["payout_script"])])
    equal(vector["unsigned"], tx.stripped().hex(), "unsigned")
    equal(vector["path"], "key_path" if len(tx.inputs[0]["witness"]) == 1 else "pay_leaf", "path")
    if vector["path"] == "key_path":
        check_musig(vector, channel, tx.inputs[0]["witness"][0])


def check_musig(vector, channel, signature):
    terms = channel["terms"]
    payer, payee = (bytes.fromhex(terms[f"{role}_key"]) for role in ("payer", "payee"))
    nonces = [bytes.fromhex(vector[f"{role}_nonce"]) for role in ("payer", "payee")]
    internal, root = (bytes.fromhex(channel[name]) for name in ("internal_key", "merkle_root"))
    tweak = tap_tweak(internal, root)[0]
    digest = bytes.fromhex(vector["tx"]["sighashes"][0])
    session = musig_session([payer, payee], tweak, nonces, digest)
    equal(bytes32(session["output"][0]).hex(), channel["output_key"], "tweaked aggregate")
    equal(signature[:32], bytes32(session["R"][0]), "nonce of the signature")
    partial = bytes.fromhex(vector["payer_partial"])
    need(partial_verify(session, payer, nonces[0], partial), "payer's partial signature")
    # PartialSigAgg, solved for the payee's half.
    g = 1 if session["output"][1] % 2 == 0 else N - 1
    tacc = session["e"] * g * tweak
    other = bytes32((scalar(signature[32:]) - scalar(partial) - tacc) % N)
    need(partial_verify(session, payee, nonces[1], other), "payee's partial signature")


def check_refund(vector, channels):
    tx, spent, fee = check_tx(vector["tx"], channels)
    terms = spent[0]["terms"]
    equal(vector["channel"], spent[0]["name"], "channel")
    equal(tx.version[0], 2, "version")
    equal(int.from_bytes(tx.locktime, "little"), terms["expiry_height"], "locktime")
    equal(vector["fee_sat"], fee, "fee")
    equal(fee, 2 * tx.vsize(), "fee at the feerate")
    expect_outputs(tx, [(vector["returned_sat"], terms["change_script"])])


def fields(message, layout):
    """The fixed serialisation of a message (message.rs), from its JSON."""
    data = b""
    for kind, name in layout:
        value = message[name]
        if kind == "network":
            data += bytes.fromhex(MAGIC[value])
        elif kind == "bytes":
            data += bytes.fromhex(value.replace(":", ""))
        elif kind == "txid":
            data += bytes.fromhex(value)[::-1]
        elif kind == "outpoint":
            data += outpoint_bytes(value)
        elif kind == "script":
            data += bytes([len(value) // 2]) + bytes.fromhex(value)
        elif kind == "path":
            data += bytes([["key_path", "pay_leaf"].index(value)])
        elif isinstance(kind, int):
            data += value.to_bytes(kind, "little")
        else:
            data += fields(value, kind)
    return data


TARIFF = (
    (8, "uplink_msat_per_mib"), (8, "downlink_msat_per_mib"), (8, "msat_per_minute"),
    (8, "uplink_kbit_per_s"), (8, "downlink_kbit_per_s"), (8, "throttle_kbit_per_s"),
)
BOUNDS = (
    (8, "min_capacity_sat"), (8, "max_capacity_sat"), (8, "min_first_update_sat"),
    (8, "max_close_fee_sat"),
)
TERMS = (
    ("network", "network"), ("bytes", "payer_key"), ("bytes", "payee_key"), (4, "expiry_height"),
    (4, "margin_blocks"), ("script", "change_script"), ("script", "payout_script"), *BOUNDS,
)
LAYOUTS = {
    "BitMesh/offer/v1": (
        ("network", "network"), ("bytes", "gateway_key"), (TARIFF, "tariff"), *BOUNDS,
        (4, "lock_blocks"), (4, "margin_blocks"), (4, "confirmations"), (8, "valid_until_unix_s"),
        ("bytes", "challenge"),
    ),
    "BitMesh/bid/v1": (
        ("bytes", "offer"), (4, "round"), (TARIFF, "tariff"), ("bytes", "payer_session_key"),
    ),
    "BitMesh/agreement/v1": (
        ("bytes", "offer"), (TARIFF, "tariff"), (TERMS, "terms"), ("bytes", "payer_session_key"),
        ("bytes", "payee_session_key"), ("bytes", "mac"),
    ),
    "BitMesh/resume/v1": (
        ("bytes", "agreement"), ("outpoint", "outpoint"), ("bytes", "mac"), ("bytes", "challenge"),
    ),
    "BitMesh/close/v1": (
        ("bytes", "agreement"), ("outpoint", "outpoint"), ("path", "path"), (8, "counted_msat"),
        ("bytes", "challenge"),
    ),
    "BitMesh/receipt/v1": (
        ("bytes", "agreement"), ("outpoint", "outpoint"), (8, "uplink_bytes"),
        (8, "downlink_bytes"), (8, "time_ms"), (8, "charged_msat"), (8, "credited_sat"),
        (8, "settled_sat"), (8, "returned_sat"), (8, "fee_sat"), ("txid", "close_txid"),
    ),
}


def check_message(vector, _channels):
    layout = LAYOUTS[vector["tag"]]
    message = vector["message"]
    equal(sorted(message), sorted(name for _, name in layout), "fields")
    data = fields(message, layout)
    equal(vector["serialized"], data.hex(), "serialisation")
    digest = tagged(vector["tag"], data)
    equal(vector["digest"], digest.hex(), "digest")
    for signed in vector["signatures"]:
        key, signature = bytes.fromhex(signed["key"]), bytes.fromhex(signed["signature"])
        need(key[0] in (2, 3) and schnorr_verify(key[1:], digest, signature), "signature")


SECTIONS = {
    "unilateral": check_unilateral,
    "batches": check_batch,
    "cooperative": check_cooperative,
    "refunds": check_refund,
    "messages": check_message,
}


def leaves(value, path=()):
    """Every string and number below `value`, with the way to it."""
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, path + (key,))
    else:
        yield path, value


def changed(value):
    """Another value of the same kind: one hex digit in the middle, or one more."""
    if isinstance(value, int):
        return value + 1
    middle = len(value) // 2
    other = "1" if value[middle] != "1" else "2"
    return value[:middle] + other + value[middle + 1 :]


def mutate(vector, check):
    """Changes each value in turn; gives the paths at which the check saw nothing."""
    for path, value in leaves(vector):
        altered = copy.deepcopy(vector)
        inner = altered
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = changed(value)
        try:
            check(altered)
        except (Wrong, ValueError, KeyError, StopIteration, IndexError):
            continue
        yield path


# What a vector only says about itself, or is free within its bounds.
FREE = {
    ("name",), ("terms", "min_first_update_sat"), ("terms", "min_capacity_sat"),
    ("terms", "max_capacity_sat"), ("terms", "margin_blocks"), ("terms", "max_close_fee_sat"),
    ("terms", "payout_script"),
}


def is_free(vector, path):
    # Below dust, the charges are left out of a cooperative close, and with them their amount.
    left_out = "path" in vector and 0 in (vector["payout_sat"], vector["change_sat"])
    return path in FREE or left_out and path == ("charges_sat",)


def main():
    path = pathlib.Path(__file__).with_name("channel.json")
    file = json.loads(path.read_text())
    channels = {channel["name"]: channel for channel in file["channels"]}
    checks = [(f"channels[{n}]", c, check_channel) for n, c in enumerate(file["channels"])]
    for section, check in SECTIONS.items():
        need(file[section], f"{section} is empty")
        for number, vector in enumerate(file[section]):
            checks.append(
                (f"{section}[{number}]", vector, lambda v, check=check: check(v, channels))
            )
    for name, vector, check in checks:
        try:
            check(vector)
        except Wrong as wrong:
            sys.exit(f"{name}: {wrong}")
    print(f"{len(checks)} vectors hold")
    if sys.argv[1:] == ["--mutate"]:
        count = 0
        for name, vector, check in checks:
            for path in mutate(vector, check):
                if not is_free(vector, path):
                    sys.exit(f"{name}: {path} can be changed without notice")
            count += sum(1 for _ in leaves(vector))
        print(f"{count} changed values noticed, but for the free ones")


if __name__ == "__main__":
    main()
