# SPDX-License-Identifier: MIT
"""The order of batches, written from docs/formats/plan.md alone and sharing nothing with src/plan.

    spec = Spec(size=2, window=1, max=3, overflow="split", shuffle=False)
    epoch = Epoch(spec, [[2, 3], [1], [4, 2, 5]], epoch=0)
    epoch.batches[3].units                          # [[(2, 2, 6, 3)], [(2, 2, 9, 2)]]
    epoch.batches[3].pieces()                       # [(2, 2, 6, 3), (2, 2, 9, 2)]
    for round in rounds(spec, len(epoch.batches), epoch=0, start=0, world=3): ...
    for step in stream(spec, lengths, world=3): ... # goes on from epoch to epoch

Speed is no aim: it is read beside the document.
"""

import ctypes
import ctypes.util
import dataclasses
import functools
import re
from typing import Iterator, NamedTuple

import numpy

PURPOSE_BLOCKS = 1
PURPOSE_SEQUENCES = 2
PURPOSE_UNITS = 3
PURPOSE_MIX = 4


@dataclasses.dataclass
class Mix:
    """Section 11. `names` and `ids` (in hexadecimal) are only needed for cursors."""

    blocks: list  # of each source
    weights: list  # in millionths
    unit: str = "sequences"
    until: object = "first"  # or "all", or a number
    names: tuple = ()
    ids: tuple = ()


@dataclasses.dataclass
class Spec:
    """Settings of section 2, every default settled; `boundaries` are the settled numbers. `pad`,
    and `boundary_text` (boundaries as the cursor says them), are only shown in cursors."""

    size: int
    max: int
    policy: str = "fixed"
    shuffle: bool = True
    seed: int = 0
    window: int = 64
    strands: int = 1
    last: str = "keep"
    tail: str = "repeat"
    overflow: str = "error"
    empty: str = "keep"
    pad: str = "longest/1/right/0"
    pad_to: int = 0
    pad_multiple_of: int = 1
    boundaries: tuple = ()
    boundary_text: str = "g1100"
    shape: str = "longest"
    tokens: int = 0
    multiple_of: int = 1
    length: int = 0
    pool: int = 256
    group: int = 0
    mix: Mix | None = None


class Piece(NamedTuple):
    block: int
    sequence: int
    start: int
    length: int


class Batch(NamedTuple):
    index: int
    strand: int
    units: list  # of lists of Piece
    rows: int
    repeated: bool

    def pieces(self) -> list:
        return [piece for unit in self.units for piece in unit]


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


# Section 2


def geometric(longest: int, factor: int) -> tuple:
    """Boundaries up to M = longest; `factor` in thousandths."""
    found, b = [], 8
    while b < longest:
        found.append(b)
        b = max(b + 1, b * factor // 1000)
    return tuple(found + [longest])


def quantiles(lengths: list, most: int, parts: int) -> tuple:
    every = sorted(min(length, most) for block in lengths for length in block)
    longest = max([1, *every])
    found = []
    for k in range(1, parts):
        value = every[-(-k * len(every) // parts) - 1]
        if 1 <= value < longest and (not found or value > found[-1]):
            found.append(value)
    return tuple(found + [longest])


def listed(boundaries: list, longest: int) -> tuple:
    return tuple([b for b in boundaries if b < longest] + [longest])


def row_places(spec: Spec, length: int) -> int:
    places = spec.pad_to or max(length, 1)
    return -(-places // spec.pad_multiple_of) * spec.pad_multiple_of


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


def bucket_units(spec: Spec, window: list) -> list:
    waiting = [[] for _ in spec.boundaries]
    units = []
    for piece in window:
        bucket = next(i for i, most in enumerate(spec.boundaries) if piece.length <= most)
        waiting[bucket].append(piece)
        if len(waiting[bucket]) == spec.size:
            units.append(waiting[bucket])
            waiting[bucket] = []
    # Pieces of equal length are in the same bucket, and there in the order of the window.
    rest = sorted((piece for bucket in waiting for piece in bucket), key=lambda p: p.length)
    units += [rest[at : at + spec.size] for at in range(0, len(rest), spec.size)]
    if spec.last == "drop" and units and len(units[-1]) < spec.size:
        units.pop()
    return units


def token_units(spec: Spec, window: list) -> list:
    m = spec.multiple_of
    rest = sorted(window, key=lambda piece: piece.length)
    units, count = [], 0
    while count < len(rest):
        if (count + 1) * row_places(spec, rest[count].length) <= spec.tokens:
            count += 1
            continue
        whole = count - count % m
        units.append(rest[:whole])
        rest, count = rest[whole:], 0
    whole = len(rest) - len(rest) % m
    if whole:
        units.append(rest[:whole])
    if whole < len(rest) and spec.last != "drop":
        units.append(rest[whole:])
    return units


def packed_units(spec: Spec, window: list) -> list:
    coming = list(window)
    pool, units = [], []

    def take(at: int):
        row.append(pool.pop(at))
        if coming:
            pool.append(coming.pop(0))
        return max(row[-1].length, 1)

    while coming and len(pool) < spec.pool:
        pool.append(coming.pop(0))
    while pool:
        row = []
        room = spec.length - take(0)
        while True:
            fitting = [max(piece.length, 1) for piece in pool if max(piece.length, 1) <= room]
            if not fitting:
                break
            room -= take([max(piece.length, 1) for piece in pool].index(max(fitting)))
        units.append(row)
    if spec.group < 2:
        return units
    ordered = []
    for number, first in enumerate(range(0, len(units), spec.group)):
        group = units[first : first + spec.group]
        sign = -1 if number % 2 else 1
        ordered += sorted(group, key=lambda row: sign * sum(piece.length**2 for piece in row))
    return ordered


# Section 11


def mix_totals(mix: Mix, lengths: list) -> list:
    totals, first = [], 0
    for count in mix.blocks:
        own = lengths[first : first + count]
        totals.append(sum(map(sum if mix.unit == "tokens" else len, own)))
        first += count
    return totals


def mix_shares(mix: Mix, totals: list) -> list:
    x = [max(w * b * 2**32 // t, 1) for w, b, t in zip(mix.weights, mix.blocks, totals)]
    shares = [4096 * one // sum(x) for one in x]
    by_rest = sorted(range(len(x)), key=lambda i: (-(4096 * x[i] % sum(x)), i))
    for i in by_rest[: 4096 - sum(shares)]:
        shares[i] += 1
    for i, share in enumerate(shares):
        if share == 0:
            shares[shares.index(max(shares))] -= 1
            shares[i] = 1
    return shares


@functools.lru_cache(maxsize=64)
def mix_table(seed: int, shuffle: bool, shares: tuple) -> list:
    table, given = [], [0] * len(shares)
    for k in range(4096):
        want = [c * (k + 1) - 4096 * g for c, g in zip(shares, given)]
        table.append(want.index(max(want)))
        given[table[-1]] += 1
    assert given == list(shares)
    return permuted(table, seed, PURPOSE_MIX, 0, 0, 0) if shuffle else table


def mix_list(spec: Spec, lengths: list, epoch: int) -> list:
    """(source, epoch of the source, block) for each entry of the epoch's list."""
    mix = spec.mix
    totals = mix_totals(mix, lengths)
    shares = mix_shares(mix, totals)
    table = mix_table(spec.seed, spec.shuffle, tuple(shares))
    places = [[k for k in range(4096) if table[k] == i] for i in range(len(shares))]

    def entry(source: int, number: int) -> int:
        """The place in the endless list of the source's number-th entry, from 1."""
        periods, left = divmod(number - 1, shares[source])
        return 4096 * periods + places[source][left]

    def begin(e: int) -> int:
        if mix.until not in ("first", "all"):
            y = max(sum(c * t * 2**20 // b for c, t, b in zip(shares, totals, mix.blocks)), 1)
            return e * max(1, -(-mix.until * 2**32 // y))
        if e == 0:
            return 0
        pick = min if mix.until == "first" else max
        ruler = pick(range(len(shares)), key=lambda i: entry(i, mix.blocks[i]))
        return entry(ruler, e * mix.blocks[ruler]) + 1

    found, orders = [], {}
    first = begin(epoch)
    periods, rest = divmod(first, 4096)
    before = [periods * c + table[:rest].count(i) for i, c in enumerate(shares)]
    for n in range(first, begin(epoch + 1)):
        source = table[n % 4096]
        own, place = divmod(before[source], mix.blocks[source])
        before[source] += 1
        if (source, own) not in orders:
            start = sum(mix.blocks[:source])
            blocks = list(range(start, start + mix.blocks[source]))
            if spec.shuffle:
                blocks = permuted(blocks, spec.seed, PURPOSE_BLOCKS, source, own, 0)
            orders[source, own] = blocks
        found.append((source, own, orders[source, own][place]))
    return found


def mix_data(mix: Mix) -> str:
    text = b"".join(
        name.encode() + b"\0" + bytes.fromhex(own) + weight.to_bytes(8, "little")
        for name, own, weight in zip(mix.names, mix.ids, mix.weights)
    )
    return xxh3_128(text).hex()


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
        if self.spec.mix:
            return [block for _, _, block in mix_list(self.spec, self.lengths, self.epoch)]
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
            held[strand] += self._weight(block)
        return strands

    def _weight(self, block: int) -> int:
        lengths = self.lengths[block]
        return sum(lengths) if self.spec.policy in ("tokens", "pack") else len(lengths)

    def _windows(self, blocks: list) -> list:
        windows = []
        at = 0
        batch = {"tokens": self.spec.tokens, "pack": self.spec.size * self.spec.length}
        enough = 4 * batch.get(self.spec.policy, self.spec.size)
        while at < len(blocks):
            window, weight = [], 0
            while at < len(blocks) and (len(window) < self.spec.window or weight < enough):
                window.append(blocks[at])
                weight += self._weight(blocks[at])
                at += 1
            windows.append(window)
        return windows

    def _units(self, strand: int, window: int, blocks: list) -> list:
        spec, found = self.spec, []
        for block in blocks:
            start = 0
            for sequence, length in enumerate(self.lengths[block]):
                for skip, piece in pieces(spec, length):
                    found.append(Piece(block, sequence, start + skip, piece))
                start += length
        if spec.shuffle:
            found = permuted(found, spec.seed, PURPOSE_SEQUENCES, strand, self.epoch, window)
        if spec.policy == "fixed":
            return [[piece] for piece in found]
        if spec.policy == "pack":
            return packed_units(spec, found)
        units = (bucket_units if spec.policy == "bucket" else token_units)(spec, found)
        if spec.shuffle:
            units = permuted(units, spec.seed, PURPOSE_UNITS, strand, self.epoch, window)
        return units

    # Section 5

    def _strand_batches(self, windows: list) -> list:
        size = self.spec.size
        units = [unit for window in windows for unit in window]
        if self.spec.policy in ("bucket", "tokens"):
            return [[unit] for unit in units]
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
            rows = self._rows(units)
            batches.append(Batch(b, strand, units, rows, local >= len(strands[strand])))
        return batches


    def _rows(self, units: list) -> int:
        spec = self.spec
        rows = len(units[0]) if spec.policy in ("bucket", "tokens") else len(units)
        if spec.last != "pad":
            return rows
        if spec.policy == "tokens":
            return -(-rows // spec.multiple_of) * spec.multiple_of
        return spec.size


def row_length(spec: Spec, batch: Batch) -> int:
    """Places of the batch's rows."""
    longest = max([piece.length for piece in batch.pieces()], default=0)
    if spec.policy == "pack":
        longest = spec.length
    if spec.policy == "bucket" and spec.shape == "bucket":
        longest = next(most for most in spec.boundaries if longest <= most)
    longest = spec.pad_to or longest
    return -(-longest // spec.pad_multiple_of) * spec.pad_multiple_of


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


def xxh3_64(data: bytes) -> int:
    library = ctypes.CDLL(ctypes.util.find_library("xxhash"))
    library.XXH3_64bits.restype = ctypes.c_uint64
    library.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    return library.XXH3_64bits(data, len(data))


def xxh3_128(data: bytes) -> bytes:
    class Hash(ctypes.Structure):
        _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]

    library = ctypes.CDLL(ctypes.util.find_library("xxhash"))
    library.XXH3_128bits.restype = Hash
    library.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    found = library.XXH3_128bits(data, len(data))
    return found.high.to_bytes(8, "big") + found.low.to_bytes(8, "big")


def batch_text(spec: Spec) -> str:
    own = {
        "fixed": [spec.size],
        "bucket": [spec.size, spec.boundary_text, spec.shape],
        "tokens": [spec.tokens, spec.multiple_of],
        "pack": [spec.size, spec.length, spec.pool, spec.group],
    }[spec.policy]
    text = "/".join(map(str, [spec.policy, *own, spec.last, spec.tail]))
    return text if len(text) <= 64 else f"#{xxh3_64(text.encode()):016x}"


def cursor(spec: Spec, data: str, epoch: int, index: int) -> str:
    """`data` is the dataset id in hexadecimal; with a mix it is not looked at."""
    order = "shuffle" if spec.shuffle else "input"
    mix = f";mix={spec.mix.unit}/{spec.mix.until}" if spec.mix else ""
    data = mix_data(spec.mix) if spec.mix else data
    text = (
        f"sf1;data={data};order={order}/{spec.window}/{spec.strands}"
        f";batch={batch_text(spec)}"
        f";length={spec.max}/{spec.overflow}/{spec.empty};pad={spec.pad}{mix}"
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
