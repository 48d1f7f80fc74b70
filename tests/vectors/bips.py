"""The Bitcoin improvement proposals that the channel rests on, from their text, in plain Python.

Slow and not constant-time: for checking public test vectors, never for secrets.
"""

import hashlib
import hmac

# secp256k1 (SEC 2)
P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)


class Wrong(Exception):
    """A vector does not hold."""


def need(holds, what):
    if not holds:
        raise Wrong(what)


def sha256(data):
    return hashlib.sha256(data).digest()


def tagged(tag, data):
    """BIP 340, tagged hash."""
    head = sha256(tag.encode())
    return sha256(head + head + data)


def scalar(data):
    return int.from_bytes(data, "big")


def bytes32(number):
    return number.to_bytes(32, "big")


# Points are (x, y), or None for infinity.
def add(a, b):
    if a is None:
        return b
    if b is None:
        return a
    if a[0] == b[0]:
        if a[1] != b[1]:
            return None
        slope = 3 * a[0] * a[0] * pow(2 * a[1], -1, P) % P
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P) % P
    x = (slope * slope - a[0] - b[0]) % P
    return (x, (slope * (a[0] - x) - a[1]) % P)


def mul(point, factor):
    total = None
    factor %= N
    while factor:
        if factor & 1:
            total = add(total, point)
        point = add(point, point)
        factor >>= 1
    return total


def negate(point):
    return point and (point[0], P - point[1])


def lift_x(x):
    """BIP 340: the point with this x and even y."""
    need(x < P, "x is not a field element")
    square = (pow(x, 3, P) + 7) % P
    y = pow(square, (P + 1) // 4, P)
    need(y * y % P == square, "x is on no point of the curve")
    return (x, y if y % 2 == 0 else P - y)


def cpoint(data):
    """BIP 327: a point from 33 bytes."""
    need(len(data) == 33 and data[0] in (2, 3), "not a compressed point")
    point = lift_x(scalar(data[1:]))
    return point if data[0] == 2 else negate(point)


def cbytes(point):
    return bytes([2 + point[1] % 2]) + bytes32(point[0])


def schnorr_verify(key, message, signature):
    """BIP 340, verification. `key` has 32 bytes."""
    if len(signature) != 64:
        return False
    point = lift_x(scalar(key))
    r, s = scalar(signature[:32]), scalar(signature[32:])
    if r >= P or s >= N:
        return False
    e = scalar(tagged("BIP0340/challenge", signature[:32] + key + message)) % N
    result = add(mul(G, s), mul(point, N - e))
    return result is not None and result[1] % 2 == 0 and result[0] == r


def bip32_hardened(seed, path):
    """BIP 32: the secret at a path of hardened steps."""
    digest = hmac.new(b"Bitcoin seed", seed, hashlib.sha512).digest()
    secret, chain = scalar(digest[:32]), digest[32:]
    for step in path:
        data = b"\0" + bytes32(secret) + (step | 1 << 31).to_bytes(4, "big")
        digest = hmac.new(chain, data, hashlib.sha512).digest()
        secret, chain = (scalar(digest[:32]) + secret) % N, digest[32:]
    return secret


def key_agg(keys):
    """BIP 327, KeySort and KeyAgg: the aggregate and each key's coefficient."""
    keys = sorted(keys)
    listed = tagged("KeyAgg list", b"".join(keys))
    second = next((key for key in keys if key != keys[0]), None)
    factors = {}
    total = None
    for key in keys:
        factor = 1 if key == second else scalar(tagged("KeyAgg coefficient", listed + key)) % N
        factors[key] = factor
        total = add(total, mul(cpoint(key), factor))
    return total, factors


def musig_session(keys, tweak, nonces, message):
    """BIP 327, GetSessionValues with one x-only tweak: everything a partial signature is about."""
    aggregate, factors = key_agg(keys)
    sign = 1 if aggregate[1] % 2 == 0 else N - 1
    output = add(mul(aggregate, sign), mul(G, tweak))
    halves = []
    for at in (0, 33):
        halves.append(add(cpoint(nonces[0][at : at + 33]), cpoint(nonces[1][at : at + 33])))
    aggnonce = b"".join(cbytes(half) if half else bytes(33) for half in halves)
    b = scalar(tagged("MuSig/noncecoef", aggnonce + bytes32(output[0]) + message)) % N
    final = add(halves[0], mul(halves[1], b)) or G
    e = scalar(tagged("BIP0340/challenge", bytes32(final[0]) + bytes32(output[0]) + message)) % N
    return {"factors": factors, "gacc": sign, "output": output, "b": b, "R": final, "e": e}


def partial_verify(session, key, nonce, partial):
    """BIP 327, PartialSigVerifyInternal."""
    s = scalar(partial)
    if s >= N:
        return False
    effective = add(cpoint(nonce[:33]), mul(cpoint(nonce[33:]), session["b"]))
    if session["R"][1] % 2:
        effective = negate(effective)
    g = 1 if session["output"][1] % 2 == 0 else N - 1
    factor = session["e"] * session["factors"][key] * g * session["gacc"] % N
    return mul(G, s) == add(effective, mul(cpoint(key), factor))


def compact(number):
    if number < 0xFD:
        return bytes([number])
    need(number < 0x10000, "longer than the vectors are")
    return b"\xfd" + number.to_bytes(2, "little")


def with_length(data):
    return compact(len(data)) + data


def tap_leaf(script):
    """BIP 341, leaf version 0xc0 (BIP 342)."""
    return tagged("TapLeaf", b"\xc0" + with_length(script))


def tap_branch(a, b):
    return tagged("TapBranch", min(a, b) + max(a, b))


def tap_tweak(internal, root):
    """BIP 341: the tweak, the output key, and its parity."""
    tweak = scalar(tagged("TapTweak", internal + root))
    output = add(lift_x(scalar(internal)), mul(G, tweak))
    return tweak, bytes32(output[0]), output[1] % 2


def script_number(number):
    """Minimal push of a number above 0, as BIP 342 and BIP 65 want it."""
    if 1 <= number <= 16:
        return bytes([0x50 + number])
    data = number.to_bytes((number.bit_length() + 7) // 8, "little")
    if data[-1] & 0x80:
        data += b"\0"
    return with_length(data)


def bech32m(prefix, version, program):
    """BIP 350."""
    alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    bits = "".join(f"{byte:08b}" for byte in program)
    bits += "0" * (-len(bits) % 5)
    words = [version] + [int(bits[at : at + 5], 2) for at in range(0, len(bits), 5)]
    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    check = 1
    for word in expanded + words + [0] * 6:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ word
        for bit, part in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= part if top >> bit & 1 else 0
    check ^= 0x2BC830A3
    words += [check >> 5 * (5 - at) & 31 for at in range(6)]
    return prefix + "1" + "".join(alphabet[word] for word in words)


class Tx:
    """A transaction, parsed from bytes (BIP 144) and written back."""

    def __init__(self, raw):
        self.at, self.raw = 0, raw
        self.version = self.take(4)
        witness = raw[4:6] == b"\0\1"
        if witness:
            self.take(2)
        self.inputs = [
            {"outpoint": self.take(36), "script": self.chunk(), "sequence": self.take(4)}
            for _ in range(self.number())
        ]
        self.outputs = [(self.take(8), self.chunk()) for _ in range(self.number())]
        for spend in self.inputs:
            count = self.number() if witness else 0
            spend["witness"] = [self.chunk() for _ in range(count)]
        self.locktime = self.take(4)
        need(self.at == len(raw), "bytes after the transaction")

    def take(self, count):
        self.at += count
        need(self.at <= len(self.raw), "the transaction ends early")
        return self.raw[self.at - count : self.at]

    def number(self):
        first = self.take(1)[0]
        need(first < 0xFE, "longer than the vectors are")
        return first if first < 0xFD else int.from_bytes(self.take(2), "little")

    def chunk(self):
        return self.take(self.number())

    def stripped(self):
        data = self.version + compact(len(self.inputs))
        for spend in self.inputs:
            data += spend["outpoint"] + with_length(spend["script"]) + spend["sequence"]
        data += compact(len(self.outputs))
        data += b"".join(value + with_length(script) for value, script in self.outputs)
        return data + self.locktime

    def txid(self):
        return sha256(sha256(self.stripped()))[::-1].hex()

    def wtxid(self):
        return sha256(sha256(self.raw))[::-1].hex()

    def vsize(self):
        return (3 * len(self.stripped()) + len(self.raw) + 3) // 4

    def paid(self):
        return sum(int.from_bytes(value, "little") for value, _ in self.outputs)


def sighash(tx, index, prevouts, hash_type, leaf=None):
    """BIP 341, SigMsg without annex; with `leaf`, extended as BIP 342 says.

    `prevouts` are pairs of an amount in eight bytes and a script.
    """
    alone, base = hash_type & 0x80, hash_type & 3
    need(hash_type in (0, 1, 2, 3, 0x81, 0x82, 0x83), "no hash type")
    data = b"\0" + bytes([hash_type]) + tx.version + tx.locktime
    if not alone:
        data += sha256(b"".join(spend["outpoint"] for spend in tx.inputs))
        data += sha256(b"".join(amount for amount, _ in prevouts))
        data += sha256(b"".join(with_length(script) for _, script in prevouts))
        data += sha256(b"".join(spend["sequence"] for spend in tx.inputs))
    if base in (0, 1):
        data += sha256(b"".join(value + with_length(script) for value, script in tx.outputs))
    data += bytes([2 if leaf is not None else 0])
    if alone:
        spend, (amount, script) = tx.inputs[index], prevouts[index]
        data += spend["outpoint"] + amount + with_length(script) + spend["sequence"]
    else:
        data += index.to_bytes(4, "little")
    if base == 3:
        need(index < len(tx.outputs), "SIGHASH_SINGLE without an output")
        value, script = tx.outputs[index]
        data += sha256(value + with_length(script))
    if leaf is not None:
        data += leaf + b"\0" + b"\xff\xff\xff\xff"
    return tagged("TapSighash", data)
