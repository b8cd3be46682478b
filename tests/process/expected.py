# SPDX-License-Identifier: MIT
"""What a feed must deliver, by the Python references alone: shards read by tests/reference/
shard_reader.py, order by plan_reference.py, tensors by numpy. No C code takes part."""
import decimal
import itertools
import pathlib
import sys

import numpy

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/reference"))

import plan_reference  # noqa: E402
import shard_reader  # noqa: E402

AUTO_WINDOW_BYTES = 64 << 20


class Expected:
    """Expected(dataset, size=8, seed=3, ...) takes the words of the configuration's order, batch,
    length and pad; other policies than fixed come as the section, batch={"policy": "bucket", ...}.
    Several datasets are {name: (directory, weight)}, and mix=(unit, until)."""

    def __init__(self, directory, size=64, shuffle=True, seed=0, window=None, strands=1, last="keep",
                 tail="repeat", length_max=None, overflow="error", empty="keep", to="longest", multiple_of=1,
                 side="right", value=0, batch=None, mix=("sequences", "first")):
        several = directory if isinstance(directory, dict) else {"": (directory, "1")}
        sources = [shard_reader.read_dataset(path) for path, _ in several.values()]
        self.dataset = sources[0]
        self.blocks = [block for source in sources for block in source.blocks]
        self.lengths = [block.lengths.tolist() for block in self.blocks]
        longest = max([1, *itertools.chain(*self.lengths)])
        raw = sum(len(block.raw) for block in self.blocks)
        if window is None:
            window = max(1, len(self.blocks)) if raw <= AUTO_WINDOW_BYTES else 64
        own = {"policy": "fixed", "size": size, "last": last, "tail": tail, **(batch or {})}
        if length_max is None:
            length_max = longest if to == "longest" else to
            length_max = own.get("length", length_max)
        self.to, self.multiple_of, self.side, self.value = to, multiple_of, side, value
        self.spec = plan_reference.Spec(
            max=length_max, shuffle=shuffle, seed=seed, window=window, strands=strands,
            overflow=overflow, empty=empty, pad=f"{to}/{multiple_of}/{side}/{value}",
            pad_to=0 if to == "longest" else to, pad_multiple_of=multiple_of,
            **{name: own[name] for name in own if name != "boundaries"})
        if len(several) > 1 or isinstance(mix[1], int):
            self.spec.mix = plan_reference.Mix(
                [len(source.blocks) for source in sources],
                [int(decimal.Decimal(weight) * 10**6) for _, weight in several.values()], *mix,
                tuple(several), [source.id for source in sources])
        self.settle(own.get("boundaries", "auto"), min(length_max, longest))

    def settle(self, boundaries, longest):
        if isinstance(boundaries, list):
            self.spec.boundaries = plan_reference.listed(boundaries, longest)
            self.spec.boundary_text = ",".join(map(str, boundaries))
        elif isinstance(boundaries, dict) and "quantiles" in boundaries:
            parts = boundaries["quantiles"]
            self.spec.boundaries = plan_reference.quantiles(self.lengths, self.spec.max, parts)
            self.spec.boundary_text = f"q{parts}"
        else:
            factor = 1.1 if boundaries == "auto" else boundaries["geometric"]
            self.spec.boundaries = plan_reference.geometric(longest, round(factor * 1000))
            self.spec.boundary_text = f"g{round(factor * 1000)}"

    def cursor(self, epoch, index):
        return plan_reference.cursor(self.spec, self.dataset.id, epoch, index)

    def stream(self, world=1, epoch=0, start=0):
        """For ever: one list a round, with the batch of each rank."""
        number, at = epoch, start
        for step in plan_reference.stream(self.spec, self.lengths, epoch, start, world):
            if step.epoch != number:
                number, at = step.epoch, 0
            yield [self.batch(step, batch, at + rank) for rank, batch in enumerate(step.batches)]
            at += world

    def epoch(self, world=1, epoch=0, start=0):
        """The same up to the end of the epoch: a list of rounds."""
        return list(itertools.takewhile(lambda found: found[0]["epoch"] == epoch,
                                        self.stream(world, epoch, start)))

    def rank(self, rank, world=1, epoch=0, start=0):
        return [found[rank] for found in self.epoch(world, epoch, start)]

    def batch(self, step, batch, place):
        return {"epoch": step.epoch, "step": place,
                "cursor": self.cursor(*step.cursor), "repeated": batch.repeated,
                "tensors": self.tensors(batch)}

    def tensors(self, batch):
        """The preset `seed`."""
        if self.spec.policy == "pack":
            return self.packed(batch)
        rows = [self.tokens(piece) for piece in batch.pieces()]
        rows += [numpy.zeros(0, numpy.int64)] * (batch.rows - len(rows))
        length = plan_reference.row_length(self.spec, batch)
        tokens = numpy.full((len(rows), length), self.value, numpy.int64)
        mask = numpy.zeros((len(rows), length), numpy.bool_)
        for number, row in enumerate(rows):
            first = 0 if self.side == "right" else length - len(row)
            tokens[number, first:first + len(row)] = row
            mask[number, first:first + len(row)] = True
        found = {"tokens": tokens, "mask": mask}
        if "label" in self.blocks[0].values:
            labels = [int(self.blocks[piece.block].values["label"][piece.sequence])
                      for piece in batch.pieces()]
            found["labels"] = numpy.array(labels + [-100] * (len(rows) - len(labels)), numpy.int64)
        found["lengths"] = numpy.array([len(row) for row in rows], numpy.int64)
        return found

    def packed(self, batch):
        shape = (batch.rows, plan_reference.row_length(self.spec, batch))
        tokens = numpy.full(shape, self.value, numpy.int64)
        segments, positions = numpy.zeros(shape, numpy.int32), numpy.zeros(shape, numpy.int64)
        for row, pieces in enumerate(batch.units):
            real = sum(piece.length for piece in pieces)
            at = 0 if self.side == "right" else shape[1] - real
            for number, piece in enumerate(pieces):
                tokens[row, at:at + piece.length] = self.tokens(piece)
                segments[row, at:at + piece.length] = number + 1
                positions[row, at:at + piece.length] = range(piece.length)
                at += piece.length
        found = {"tokens": tokens, "segments": segments, "position_ids": positions,
                 "mask": segments > 0}
        lengths = [piece.length for piece in batch.pieces()]
        found["lengths"] = numpy.array(lengths, numpy.int64)
        if "label" in self.blocks[0].values:
            found["labels"] = numpy.array(
                [int(self.blocks[piece.block].values["label"][piece.sequence])
                 for piece in batch.pieces()], numpy.int64)
        found["cu_seqlens"] = numpy.cumsum([0] + lengths).astype(numpy.int32)
        return found

    def tokens(self, unit):
        values = self.blocks[unit.block].values["tokens"]
        return values[unit.start:unit.start + unit.length].astype(numpy.int64)

