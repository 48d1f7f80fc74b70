"""Writes the small corpora under fuzz/corpus: real messages from the test vectors, a payer's record,
a node's answers, frames. Run it after the vectors or a format changed: python3 fuzz/seed_corpus.py"""

import json
import struct
import sys
from pathlib import Path

sys.dont_write_bytecode = True

from seed_chain import BITCOIND, ESPLORA, text

HERE = Path(__file__).parent
VECTORS = json.loads((HERE / "../tests/vectors/channel.json").read_text())


def write(target: str, name: str, data: bytes) -> None:
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


messages = {m["tag"].split("/")[1]: m for m in VECTORS["messages"]}
offer, agreement, resume, close, receipt = (
    messages[name]["message"] for name in ("offer", "agreement", "resume", "close", "receipt")
)


def signature(name: str, index: int = 0) -> str:
    return messages[name]["signatures"][index]["signature"]


funding = VECTORS["channels"][0]
raw_tx = VECTORS["unilateral"][0]["tx"]["raw"]
update = {"change_sat": 50_000, "signature": "11" * 64 + "83"}
everything = {"change_sat": 0, "signature": "11" * 64 + "82"}

# Messages that are signed.
for letter, name in zip("abcde", ("offer", "agreement", "resume", "close", "receipt")):
    write("message", name, letter.encode() + text(messages[name]["message"]))
write("message", "agreement-funded", b"b" + text(agreement) + b"\n" + bytes.fromhex(raw_tx))
write("message", "agreement-paid", b"b" + text(agreement) + b"\n" + b"\x11" * 64 + b"\x83")
write("message", "update", b"z" + struct.pack("<Q", 50_000) + b"\0" + b"\x11" * 64 + b"\x83")

# Bodies of the payment API.
signed_offer = {"offer": offer, "signature": signature("offer")}
bodies = {
    "a": ("offer-request", {"challenge": "77" * 32}),
    "b": ("signed-offer", signed_offer),
    "c": (
        "open-request",
        signed_offer
        | {
            "payer_key": agreement["terms"]["payer_key"],
            "payer_session_key": agreement["payer_session_key"],
            "change_script": agreement["terms"]["change_script"],
        },
    ),
    "d": (
        "open-response",
        {
            "channel": messages["agreement"]["digest"],
            "agreement": agreement,
            "signature": signature("agreement", 1),
            "address": funding["address"],
        },
    ),
    "e": ("funding-request", {"agreement_signature": signature("agreement"), "raw_tx": raw_tx}),
    "h": ("update", update),
    "i": ("update-accepted", {"change_sat": 5, "credit_msat": 5, "balance_msat": 5}),
    "j": ("stream", {"refused": {"reason": "stale", "message": "pay more", "newest": update}}),
    "k": ("challenge", {"challenge": "78" * 32}),
    "l": ("close", {"request": close, "signature": signature("close")}),
    "m": (
        "close-offer",
        {
            "plan": {
                "path": "pay_leaf",
                "charges_sat": 25_000,
                "fee_sat": 308,
                "payout_sat": 25_000,
                "change_sat": 74_692,
            },
            "nonce": None,
        },
    ),
    "n": ("completion", {"pay_leaf": "11" * 64}),
    "o": (
        "closed",
        {
            "txid": receipt["close_txid"],
            "raw_tx": raw_tx,
            "settled_sat": 25_001,
            "returned_sat": 74_691,
            "fee_sat": 308,
            "receipt": receipt,
            "receipt_signature": signature("receipt"),
        },
    ),
    "p": ("resume", {"request": resume, "signature": signature("resume")}),
    "q": ("error", {"reason": "stale", "message": "pay more"}),
}
for letter, (name, body) in bodies.items():
    write("body", name, letter.encode() + text(body))

# What is stored.
record = {
    "version": 1,
    "index": 1,
    "gateway_url": "http://192.0.2.1:2121",
    "gateway_key": offer["gateway_key"],
    "network": "regtest",
    "change_script": agreement["terms"]["change_script"],
    "wanted_sat": 100_000,
    "budget_sat": 100_000,
    "phase": "open",
    "agreement": agreement,
    "payee_signature": signature("agreement", 1),
    "raw_funding": raw_tx,
    "funding": {"outpoint": receipt["outpoint"], "capacity_sat": 100_000},
    "newest": update,
    "used": {"uplink_bytes": 1, "downlink_bytes": 2, "time_ns": 3},
    "unseen_msat": 7,
    "end": None,
}
write("record", "payer", b"a" + text(record))
blocks = [{"height": n, "hash": f"{n:064x}"} for n in (1, 2, 3)]
write("record", "cursor", b"b" + text(blocks))
for column in range(0, 64, 8):
    for kind in range(4):
        write("record", f"cell-{column}-{kind}", bytes([ord("c"), column, kind]) + b"\xff" * 8)
write("record", "cell-agreement", b"c\x10\x02" + text(agreement))

# What a node and a server answer.
for target, seeds in (("chain_bitcoind", BITCOIND), ("chain_esplora", ESPLORA)):
    for name, seed in seeds.items():
        write(target, name, seed)

# Frames: six bytes of what offload says, then Ethernet.
ethernet = bytes.fromhex("020000000001020000000002")
v4 = bytes.fromhex("4500001e00000000401100000a000002c6336407") + b"\0" * 10
v6 = bytes.fromhex("60000000000a1140") + b"\xfd" * 16 + b"\x20" * 16 + b"\0" * 10
tcp = bytes.fromhex("4500c35000000000400600000a000002c6336407") + bytes(12) + b"\x50" + bytes(90)
plain, super_packet = bytes(6), struct.pack("<HH", 1_400, 36) + b"\x02\0"
write("frame", "udp-v4", plain + ethernet + b"\x08\0" + v4)
write("frame", "udp-v6", plain + ethernet + b"\x86\xdd" + v6)
write("frame", "tcp-super", super_packet + ethernet + b"\x08\0" + tcp)
write("frame", "tagged", plain + ethernet + b"\x81\0\0\x05\x08\0" + v4)
write("frame", "fragment", plain + ethernet + b"\x08\0" + v4[:6] + b"\x20\x01" + v4[8:])
write("frame", "arp", plain + ethernet + b"\x08\x06" + bytes(28))
extended = v6[:6] + b"\0" + v6[7:40] + bytes.fromhex("2c00000000000000110000010000000a") + bytes(8)
write("frame", "extensions", plain + ethernet + b"\x86\xdd" + extended)
