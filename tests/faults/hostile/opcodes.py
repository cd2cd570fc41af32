"""Mutations of a pickle that somebody else has written, operation by operation."""

import pickletools
import random
import struct

from hostile.assembler import DANGEROUS, OPS
from hostile.bytewise import LENGTHS


def split(content: bytes) -> list[bytes]:
    """The operations with their arguments, without FRAME, which would have to fit the rest."""
    starts = [(position, op.name) for op, _, position in pickletools.genops(content)]
    ends = [position for position, _ in starts[1:]] + [len(content)]
    return [content[a:b] for (a, name), b in zip(starts, ends, strict=True) if name != "FRAME"]


def mutate(rng: random.Random, content: bytes) -> tuple[str, bytes]:
    """The name of a mutation, and the pickle with it."""
    ops = split(content)
    what = rng.choice((removed, repeated, exchanged, inserted, number, name, length))
    for _ in range(min(rng.choice((1, 1, 1, 2, 4)), len(ops))):
        what(rng, ops)
    return f"operation: {what.__name__}", b"".join(ops)


def removed(rng: random.Random, ops: list[bytes]) -> None:
    del ops[rng.randrange(len(ops))]


def repeated(rng: random.Random, ops: list[bytes]) -> None:
    i = rng.randrange(len(ops))
    ops[i:i] = [ops[i]] * rng.choice((1, 2, 50))


def exchanged(rng: random.Random, ops: list[bytes]) -> None:
    i, k = rng.randrange(len(ops)), rng.randrange(len(ops))
    ops[i], ops[k] = ops[k], ops[i]


def inserted(rng: random.Random, ops: list[bytes]) -> None:
    ops.insert(rng.randrange(len(ops)), rng.choice(OPS))


def number(rng: random.Random, ops: list[bytes]) -> None:
    """The argument of an operation with a number of fixed size, memo references among them."""
    i = rng.choice([i for i, op in enumerate(ops) if op[:1] in b"KMJhqjrG\x82\x80"] or [0])
    size = len(ops[i]) - 1
    value = rng.choice((*LENGTHS, *range(12))) % 256**size
    ops[i] = ops[i][:1] + value.to_bytes(size, "little")


def name(rng: random.Random, ops: list[bytes]) -> None:
    """What is imported."""
    found = rng.choice(DANGEROUS)
    at = [i for i, op in enumerate(ops) if op[:1] in (b"c", b"\x93")]
    i = rng.choice(at or [0])
    ops[i] = f"c{found.module}\n{found.name}\n".encode()


def length(rng: random.Random, ops: list[bytes]) -> None:
    """How long a text or a list of bytes says that it is."""
    sizes = {b"X": 4, b"B": 4, b"T": 4, b"U": 1, b"C": 1, b"\x8c": 1, b"\x8a": 1, b"\x8b": 4}
    sizes |= {b"\x8d": 8, b"\x8e": 8, b"\x96": 8}
    i = rng.choice([i for i, op in enumerate(ops) if op[:1] in sizes] or [0])
    size = sizes.get(ops[i][:1], 1)
    value = rng.choice((*LENGTHS, len(ops[i]), max(0, len(ops[i]) - 10))) % 256**size
    ops[i] = ops[i][:1] + struct.pack("<Q", value)[:size] + ops[i][1 + size :]
