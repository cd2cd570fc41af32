"""Damage to a file of which nothing is known."""

import random
import struct

from hostile.case import choose

LENGTHS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**64 - 1)


def damaged(rng: random.Random, content: bytes) -> tuple[str, bytes]:
    """The name of some damage, and the content with it."""
    damage = choose(rng, DAMAGES)
    return damage.__name__, damage(rng, content)


def truncated(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def flipped(rng: random.Random, content: bytes) -> bytes:
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5, 20))):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def overwritten(rng: random.Random, content: bytes) -> bytes:
    """A number that may be a length or an offset becomes another."""
    found = bytearray(content)
    size = rng.choice((1, 2, 4, 8))
    at = rng.randrange(max(1, len(found) - size))
    form = rng.choice("<>") + {1: "B", 2: "H", 4: "I", 8: "Q"}[size]
    found[at : at + size] = struct.pack(form, rng.choice(LENGTHS) % 256**size)
    return bytes(found)


def cut_out(rng: random.Random, content: bytes) -> bytes:
    start, end = _slice(rng, content)
    return content[:start] + content[end:]


def repeated(rng: random.Random, content: bytes) -> bytes:
    start, end = _slice(rng, content)
    return content[:end] + content[start:end] * rng.choice((1, 2, 100)) + content[end:]


def moved(rng: random.Random, content: bytes) -> bytes:
    start, end = _slice(rng, content)
    rest, to = content[:start] + content[end:], rng.randrange(len(content))
    return rest[:to] + content[start:end] + rest[to:]


def zeroed(rng: random.Random, content: bytes) -> bytes:
    start, end = _slice(rng, content)
    return content[:start] + bytes(end - start) + content[end:]


def inserted(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.randbytes(rng.choice((1, 2, 8, 100))) + content[at:]


def appended(rng: random.Random, content: bytes) -> bytes:
    return content + rng.choice((b"\0", b"\n", b"\xff" * 64, content))


def empty(rng: random.Random, content: bytes) -> bytes:
    return rng.choice((b"", b"\0", b"\n", rng.randbytes(64), bytes(4096)))


def _slice(rng: random.Random, content: bytes) -> tuple[int, int]:
    start = rng.randrange(len(content))
    return start, min(len(content), start + rng.choice((1, 2, 4, 8, 32, 200)))


DAMAGES = {
    **{truncated: 4, flipped: 8, overwritten: 6, cut_out: 2, repeated: 2, moved: 1},
    **{zeroed: 2, inserted: 2, appended: 1, empty: 1},
}
