"""What a node or an Esplora server answers to every question of the fuzzers' `ask_everything`, one
answer a line, in the order of the questions: a block that pays what is watched, a mempool that
spends it, and each way to say no."""

import hashlib
import json
import struct

GENESIS = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"
GENESIS_TIME = 1_296_688_602
# The script and the outpoint that are watched.
SCRIPT = b"\x51\x20" + b"\x07" * 32
OUTPOINT = b"\x09" * 32 + bytes(4)


def text(value) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def double_hash(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def name(data: bytes) -> str:
    """The txid or the block's hash, as people write it."""
    return double_hash(data)[::-1].hex()


def transaction(outpoint: bytes, script: bytes) -> bytes:
    spends = b"\x01" + outpoint + b"\x01\x00" + b"\xff" * 4
    pays = b"\x01" + struct.pack("<Q", 50_000) + bytes([len(script)]) + script
    return struct.pack("<I", 3) + spends + pays + bytes(4)


def mined(transactions: list[bytes]) -> bytes:
    """The first block after regtest's genesis, which is as easy as a block can be."""
    first, second = map(double_hash, transactions)
    start = struct.pack("<I", 0x20000000) + bytes.fromhex(GENESIS)[::-1]
    start += double_hash(first + second) + struct.pack("<II", GENESIS_TIME + 600, 0x207FFFFF)
    headers = (start + struct.pack("<I", nonce) for nonce in range(1_000))
    header = next(header for header in headers if double_hash(header)[31] < 0x7F)
    return header + bytes([len(transactions)]) + b"".join(transactions)


def lines(*answers) -> bytes:
    return b"\n".join(answer if isinstance(answer, bytes) else text(answer) for answer in answers)


def said_with(status: str, body: bytes, *headers: str) -> bytes:
    head = [f"!HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    # A line of the head ends with a carriage return alone: the other byte ends an answer.
    return "\r".join([*head, "\r"]).encode() + body


coinbase = transaction(bytes(32) + b"\xff" * 4, SCRIPT)
spending = transaction(OUTPOINT, SCRIPT)
waiting = transaction(bytes.fromhex(name(spending))[::-1] + bytes(4), SCRIPT)
block = mined([coinbase, spending])
tip = name(block[:80])

info = {
    "chain": "regtest",
    "blocks": 1,
    "headers": 1,
    "bestblockhash": tip,
    "time": GENESIS_TIME + 600,
    "initialblockdownload": False,
    "pruned": False,
}
network = {"version": 290_000, "subversion": "/Satoshi:29.0.0/", "localrelay": True}
pool = {"mempoolminfee": 0.00001, "minrelaytxfee": 0.00001}
check = [GENESIS, info]
spent = [{"txid": "09" * 32, "vout": 0, "spendingtxid": name(waiting)}]
unspent = [{"txid": "09" * 32, "vout": 0}]
refusal = text({"id": 0, "result": None, "error": {"code": -28, "message": "Loading"}})

BITCOIND = {
    "ready": lines(
        *check,
        info,
        *[network, pool, info],
        *[info, GENESIS, tip, block.hex()],
        *[info, GENESIS, tip],
        *[[name(waiting)], spent, waiting.hex(), info],
        *[None, unspent, info, tip, block.hex()],
        *[{"feerate": 0.0002}, pool],
        *[None, name(waiting)],
    ),
    "unspent": lines(
        *check,
        *[info, network, pool, info, info, GENESIS, tip, block.hex(), info, GENESIS, tip],
        *[[], unspent, info],
        *[{"bestblock": tip, "confirmations": 1}, {"height": 1, "confirmations": 1}, tip],
        {"height": 1, "confirmations": 1},
    ),
    "early": lines(GENESIS, info | {"initialblockdownload": True}),
    "other": lines("00" * 32),
    "loading": said_with("500 Internal Server Error", refusal),
    "unauthorized": said_with("401 Unauthorized", b""),
}

genesis_hash, tip_hash = GENESIS.encode(), tip.encode()
summary = {"id": tip, "height": 1, "timestamp": GENESIS_TIME + 600}
oldest = {"id": GENESIS, "height": 0, "timestamp": GENESIS_TIME}
confirmed = {"confirmed": True, "block_height": 1, "block_hash": tip}
in_mempool = {"txid": name(waiting), "vout": [{}], "status": {"confirmed": False}}
in_block = {"txid": "09" * 32, "vout": [{}], "status": confirmed}
start = [genesis_hash, tip_hash, summary, tip_hash, tip_hash]
followed = [tip_hash, genesis_hash, tip_hash, b"#" + block.hex().encode(), tip_hash]
followed += [[summary, oldest]]
kept = {"spent": False}
# What is watched, and what the block pays to it.
quiet = [[], kept, kept, kept, tip_hash]
spent_by = {"spent": True, "txid": name(waiting), "status": {"confirmed": False}}
spent_in = {"spent": True, "txid": name(spending), "status": confirmed}

ESPLORA = {
    "ready": lines(
        *[*start, *followed],
        *[[in_mempool], spent_by, kept, kept],
        *[in_mempool, b"#" + waiting.hex().encode(), tip_hash],
        *[in_block, kept],
        {"2": 20.1, "6": 10.0},
        *[said_with("404 Not Found", b"Transaction not found"), name(waiting).encode()],
    ),
    "spent": lines(
        *[*start, *followed, *quiet],
        *[in_block, spent_in, spent_in, spent_in],
        {},
        in_block,
    ),
    "refused": lines(
        *[*start, *followed, *quiet],
        *[in_block, kept, {}],
        said_with("404 Not Found", b"Transaction not found"),
        said_with("400 Bad Request", b'sendrawtransaction RPC error: {"code":-26,"message":"dust"}'),
    ),
    "other": lines(b"00" * 32),
    "crowded": said_with("429 Too Many Requests", b""),
    "elsewhere": said_with("302 Found", b"", "Location: https://192.0.2.1/"),
    "proxy": said_with("404 Not Found", b"<html>Not Found</html>"),
}
