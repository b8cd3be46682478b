# SPDX-License-Identifier: MIT
"""The order of batches, written from docs/formats/plan.md alone and sharing nothing with src/plan.

    spec = Spec(size=2, window=1, max=3, overflow="split", shuffle=False)
    epoch = Epoch(spec, [[2, 3], [1], [4, 2, 5]], epoch=0)
    epoch.batches[3].units                          # [(2, 2, 6, 3), (2, 2, 9, 2)]
    for round in rounds(spec, len(epoch.batches), epoch=0, start=0, world=3): ...
    for step in stream(spec, lengths, world=3): ... # goes on from epoch to epoch

Speed is no aim: it is read beside the document.
"""

import dataclasses
import re
from typing import Iterator, NamedTuple

import numpy

PURPOSE_BLOCKS = 1
PURPOSE_SEQUENCES = 2


@dataclasses.dataclass
class Spec:
    """Settings of section 2, every default settled. `pad` is only shown in cursors."""

    size: int
    max: int
    shuffle: bool = True
    seed: int = 0
    window: int = 64
    strands: int = 1
    last: str = "keep"
    tail: str = "repeat"
    overflow: str = "error"
    empty: str = "keep"
    pad: str = "longest/1/right/0"


class Unit(NamedTuple):
    block: int
    sequence: int
    start: int
    length: int


class Batch(NamedTuple):
    index: int
    strand: int
    units: list  # of Unit
    rows: int
    repeated: bool


class Place(NamedTuple):
    batch: int
    repeated: bool


class Round(NamedTuple):
    places: list  # of Place, one a rank
    cursor: tuple  # (epoch, index)


class NoBatch(Exception):
    """A strand has no batch: the plan is unusable."""


# Section 3


def philox(key: int, c0, c1: int, c2: int, c3: int) -> numpy.ndarray:
    """Four words for each first counter in c0: an array [len(c0), 4]."""
    low = numpy.uint64(0xFFFFFFFF)
    shift = numpy.uint64(32)
    counters = numpy.asarray(c0, dtype=numpy.uint64)
    c = [counters] + [numpy.full_like(counters, word) for word in (c1, c2, c3)]
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p0 = numpy.uint64(0xD2511F53) * c[0]
        p1 = numpy.uint64(0xCD9E8D57) * c[2]
        c = [
            (p1 >> shift) ^ c[1] ^ numpy.uint64(k0),
            p1 & low,
            (p0 >> shift) ^ c[3] ^ numpy.uint64(k1),
            p0 & low,
        ]
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return numpy.stack(c, axis=-1)


def permuted(things: list, seed: int, purpose: int, strand: int, epoch: int, window: int) -> list:
    things = list(things)
    draws = max(len(things) - 1, 0)
    indexes = range((draws + 3) // 4)
    words = philox(seed, indexes, purpose * 2**24 + strand, epoch % 2**32, window).reshape(-1)
    for draw in range(draws):
        i = len(things) - 1 - draw
        j = int(words[draw]) * (i + 1) // 2**32
        things[i], things[j] = things[j], things[i]
    return things


# Section 4


def pieces(spec: Spec, length: int) -> list:
    """What becomes of a sequence: (tokens skipped in front, length) of each unit."""
    if length == 0:
        return [(0, 0)] if spec.empty == "keep" else []
    if length <= spec.max:
        return [(0, length)]
    if spec.overflow == "truncate_right":
        return [(0, spec.max)]
    if spec.overflow == "truncate_left":
        return [(length - spec.max, spec.max)]
    if spec.overflow == "split":
        return [(at, min(spec.max, length - at)) for at in range(0, length, spec.max)]
    if spec.overflow == "drop":
        return []
    raise ValueError(f"a sequence of {length} tokens, length.max is {spec.max}")


class Epoch:
    def __init__(self, spec: Spec, lengths: list, epoch: int):
        """`lengths[b]` lists the lengths of the sequences of block b."""
        self.spec, self.lengths, self.epoch = spec, lengths, epoch
        self.strands = self._strands(self._blocks())
        self.windows = [self._windows(blocks) for blocks in self.strands]
        self.window_units = [
            [self._units(strand, w, blocks) for w, blocks in enumerate(windows)]
            for strand, windows in enumerate(self.windows)
        ]
        self.strand_batches = [self._strand_batches(windows) for windows in self.window_units]
        for strand, batches in enumerate(self.strand_batches):
            if not batches:
                raise NoBatch(strand)
        self.batches = self._batches()

    def _blocks(self) -> list:
        blocks = list(range(len(self.lengths)))
        if self.spec.shuffle:
            blocks = permuted(blocks, self.spec.seed, PURPOSE_BLOCKS, 0, self.epoch, 0)
        return blocks

    def _strands(self, blocks: list) -> list:
        strands = [[] for _ in range(self.spec.strands)]
        held = [0] * self.spec.strands
        for block in blocks:
            strand = held.index(min(held))
            strands[strand].append(block)
            held[strand] += len(self.lengths[block])
        return strands

    def _windows(self, blocks: list) -> list:
        windows = []
        at = 0
        while at < len(blocks):
            window, sequences = [], 0
            while at < len(blocks) and (
                len(window) < self.spec.window or sequences < 4 * self.spec.size
            ):
                window.append(blocks[at])
                sequences += len(self.lengths[blocks[at]])
                at += 1
            windows.append(window)
        return windows

    def _units(self, strand: int, window: int, blocks: list) -> list:
        units = []
        for block in blocks:
            start = 0
            for sequence, length in enumerate(self.lengths[block]):
                for skip, piece in pieces(self.spec, length):
                    units.append(Unit(block, sequence, start + skip, piece))
                start += length
        if self.spec.shuffle:
            units = permuted(
                units, self.spec.seed, PURPOSE_SEQUENCES, strand, self.epoch, window
            )
        return units

    # Section 5

    def _strand_batches(self, windows: list) -> list:
        size = self.spec.size
        units = [unit for window in windows for unit in window]
        batches = [units[at : at + size] for at in range(0, len(units), size)]
        if self.spec.last == "drop" and batches and len(batches[-1]) < size:
            batches.pop()
        return batches

    # Section 6

    def _batches(self) -> list:
        strands = self.strand_batches
        count = len(strands) * (max if self.spec.tail == "repeat" else min)(map(len, strands))
        batches = []
        for b in range(count):
            strand, local = b % len(strands), b // len(strands)
            units = strands[strand][local % len(strands[strand])]
            rows = self.spec.size if self.spec.last == "pad" else len(units)
            batches.append(Batch(b, strand, units, rows, local >= len(strands[strand])))
        return batches


# Section 7


def rounds(spec: Spec, count: int, epoch: int, start: int, world: int) -> list:
    """The rounds of an epoch of `count` batches from index `start` on."""
    left = count - start
    number = left // world if spec.tail == "drop" else -(-left // world)
    result = []
    for k in range(number):
        first = start + k * world
        places = [Place(p % count, p >= count) for p in range(first, first + world)]
        cursor = (epoch + 1, 0) if k == number - 1 else (epoch, first + world)
        result.append(Round(places, cursor))
    return result


class Step(NamedTuple):
    epoch: int
    batches: list  # of Batch, one a rank, with `repeated` as the trainer sees it
    cursor: tuple  # (epoch, index)


def stream(
    spec: Spec, lengths: list, epoch: int = 0, start: int = 0, world: int = 1
) -> Iterator[Step]:
    """What a stream delivers from a cursor on, without end."""
    while True:
        batches = Epoch(spec, lengths, epoch).batches
        if spec.tail == "drop" and len(batches) < world:
            raise NoBatch(f"{len(batches)} batches for {world} ranks")
        for places, cursor in rounds(spec, len(batches), epoch, start, world):
            yield Step(
                epoch,
                [
                    batches[place.batch]._replace(
                        repeated=place.repeated or batches[place.batch].repeated
                    )
                    for place in places
                ],
                cursor,
            )
        epoch, start = epoch + 1, 0


# Section 8


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def cursor(spec: Spec, data: str, epoch: int, index: int) -> str:
    """`data` is the dataset id in hexadecimal."""
    order = "shuffle" if spec.shuffle else "input"
    text = (
        f"sf1;data={data};order={order}/{spec.window}/{spec.strands}"
        f";batch=fixed/{spec.size}/{spec.last}/{spec.tail}"
        f";length={spec.max}/{spec.overflow}/{spec.empty};pad={spec.pad}"
        f";seed={spec.seed};epoch={epoch};index={index}"
    )
    return f"{text};crc={crc32c(text.encode()):08x}"


def cursor_position(text: str) -> tuple:
    """(epoch, index) of a cursor of either form; ValueError when it is none."""
    short = re.fullmatch(r"sf1;epoch=(0|[1-9][0-9]*)", text)
    if short:
        return int(short[1]), 0
    full = re.fullmatch(
        r"(sf1;(?:[a-z_]+=[^;]*;)*epoch=(0|[1-9][0-9]*);index=(0|[1-9][0-9]*));crc=([0-9a-f]{8})",
        text,
    )
    if not full or crc32c(full[1].encode()) != int(full[4], 16):
        raise ValueError(f"not a cursor: {text}")
    return int(full[2]), int(full[3])
