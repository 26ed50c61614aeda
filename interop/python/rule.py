"""The common rule of record content (see ../README.md), and the record files."""

import os
import struct
from collections import namedtuple

# How many replicas each topic has that is created here.
REPLICAS = int(os.environ.get("REPLICAS", "1"))

Record = namedtuple("Record", "key value headers ts")

M32 = 0xFFFFFFFF
TEXT = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
BIG = 1 << 20


def stream(seed, i):
    x = (seed * 2654435761 + i * 40503 + 1) & M32 or 1
    while True:
        x ^= (x << 13) & M32
        x ^= x >> 17
        x ^= (x << 5) & M32
        yield x


def content(seed, i, text=False, length=None):
    rng = stream(seed, i)
    size = 1 + next(rng) % 400
    size = length or size
    block = min(size, 4096)
    if text:
        body = bytes(TEXT[(next(rng) >> 8) & 63] for _ in range(block))
    else:
        body = bytes((next(rng) >> 8) & 255 for _ in range(block))
    return (body * (size // block + 1))[:size]


def record(rule, seed, i, t0):
    key, ts = b"k-%d" % i, t0 + 1000 * i if t0 else None
    if rule == "big":
        return Record(key, content(seed, i, length=BIG), [], ts)
    if rule == "nullhdr":
        return Record(key, content(seed, i, text=True), [("h0", None), ("h1", b"v")], ts)
    if rule == "plain":
        value = None if i % 11 == 4 else content(seed, i, text=True)
        return Record(None if i % 7 == 3 and value is not None else key, value, [], None)
    value = None if i % 11 == 4 else b"" if i % 11 == 8 else content(seed, i)
    if i % 7 == 3 and value is not None:
        key = None
    elif i % 7 == 5:
        key = b""
    headers = [("h0", b"v%d" % i), ("h1", b""), ("h2", b"\xff\xfe")][: i % 4]
    return Record(key, value, headers, ts)


def numbered(name, p, number):
    """Value of record `number` that the writer `name` of the case `load` sends to partition p."""
    head = b"%s %d %d " % (name.encode(), p, number)
    size = max(24 + (number * 7919 + p * 104729) % 600, len(head))
    return (head * (size // len(head) + 1))[:size]


def short(value):
    return repr(value if value is None or len(value) < 40 else value[:40] + b"...")


def difference(rule, seed, i, t0, got):
    """What is wrong with `got` as record i, or None."""
    want = record(rule, seed, i, t0)
    for name in ("key", "value"):
        w, g = getattr(want, name), getattr(got, name)
        if w != g:
            return f"record {i}: {name} is {short(g)}, not {short(w)}"
    if list(got.headers or []) != want.headers:
        return f"record {i}: headers are {got.headers}, not {want.headers}"
    if want.ts is not None and want.ts != got.ts:
        return f"record {i}: timestamp is {got.ts}, not {want.ts}"
    return None


def read_file(path):
    """Yields (key, value) of a record file."""
    with open(path, "rb") as f:
        data = f.read()
    at = 0

    def part():
        nonlocal at
        (size,) = struct.unpack_from(">i", data, at)
        at += 4
        if size < 0:
            return None
        at += size
        return data[at - size : at]

    while at < len(data):
        key = part()
        yield key, part()


def pack(p, offset, key, value):
    parts = [struct.pack(">iq", p, offset)]
    for field in (key, value):
        parts.append(struct.pack(">i", -1 if field is None else len(field)))
        parts.append(field or b"")
    return b"".join(parts)
