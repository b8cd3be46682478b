# SPDX-License-Identifier: MIT
"""What every tensor of a packed batch must be, place by place, by numpy alone. A batch is a list of rows; a
row is a list of pieces: dictionaries with `tokens`, the sequence's own columns (`weight` per token, `label`,
and the lists `holes` and `spans`), `start`, the piece's first token in its sequence, and `whole`, the tokens
of the sequence."""
import numpy

DTYPES = {"bool": numpy.bool_, "uint8": numpy.uint8, "int32": numpy.int32, "int64": numpy.int64,
          "float16": numpy.float16, "float32": numpy.float32}


class PackedBatch:
    def __init__(self, rows, length, side="right", pad=0, parity=False):
        self.rows, self.length, self.pad, self.side = rows, length, pad, side
        self.pieces = [piece for row in rows for piece in row]
        shape = (len(rows), length)
        self.segment, self.position = numpy.zeros(shape, int), numpy.full(shape, -1)
        self.tokens, self.starts = numpy.full(shape, pad, int), []
        for number, row in enumerate(rows):
            at = 0 if side == "right" else length - sum(len(piece["tokens"]) for piece in row)
            for segment, piece in enumerate(row):
                count = len(piece["tokens"])
                self.starts.append(number * length + at)
                self.segment[number, at:at + count] = segment + 1
                self.position[number, at:at + count] = range(count)
                self.tokens[number, at:at + count] = piece["tokens"]
                at += count

    def piece(self, row, place):
        return self.rows[row][self.segment[row, place] - 1]

    # ---- masks: [rows, queries, places]

    def listed(self, row, place, column):
        if not self.segment[row, place]:
            return False
        piece = self.piece(row, place)
        index = self.position[row, place] + piece["start"]
        return index in piece[column] or index - piece["whole"] in piece[column]

    def mask(self, expression):
        rows, length = self.segment.shape
        query, place = numpy.ogrid[:length, :length]
        if expression == "lengths":
            return numpy.broadcast_to(self.segment[:, None, :] > 0, (rows, length, length))
        if expression == "causal":
            return numpy.broadcast_to(place <= query, (rows, length, length))
        if expression == "segments":
            return (self.segment[:, :, None] == self.segment[:, None, :]) & (self.segment[:, :, None] > 0)
        (word, value), = expression.items()
        if word == "window":
            return numpy.broadcast_to(query - place < value, (rows, length, length))
        if word == "token_ids":
            keep = ~numpy.isin(self.tokens, numpy.array(value, int))
        elif word == "indices" and isinstance(value, str):
            keep = numpy.array([[not self.listed(row, at, value) for at in range(length)] for row in range(rows)],
                               bool).reshape(rows, length)
        elif word == "indices":
            keep = numpy.ones((rows, length), bool)
            keep[:, value] = False
        elif word == "not":
            return ~self.mask(value)
        else:
            parts = [self.mask(part) for part in value]
            start = numpy.full((rows, length, length), word == "all")
            return (numpy.logical_and if word == "all" else numpy.logical_or).reduce([start, *parts])
        return numpy.broadcast_to(keep[:, None, :], (rows, length, length))

    def make_mask(self, spec):
        keep = self.mask(spec["mask"])
        keep = keep[:, None] if spec.get("shape") == "dense" else keep[:, 0] if self.length else keep.any(1)
        dtype = DTYPES[spec.get("dtype", "bool")]
        if spec.get("polarity") == "additive":
            return numpy.where(keep, 0, numpy.finfo(dtype).min).astype(dtype)
        return (~keep if spec.get("polarity") == "masked" else keep).astype(dtype)

    # ---- the rest

    def learned(self, row, place, spec):
        """The token of the piece that a label at this place is about, or -1."""
        if not self.segment[row, place]:
            return -1
        piece = self.piece(row, place)
        target = self.position[row, place] + (spec.get("shift", "none") != "none")
        if target >= len(piece["tokens"]) or target == 0:
            return -1
        if "spans" in spec:
            pairs = list(zip(piece[spec["spans"]][::2], piece[spec["spans"]][1::2]))
            if not any(first <= target + piece["start"] < end for first, end in pairs):
                return -1
        return target

    def labels(self, spec):
        ignore = spec.get("ignore", 0 if spec.get("shift") == "megatron" else -100)
        found = numpy.zeros(self.segment.shape, int)
        for (row, place), _ in numpy.ndenumerate(found):
            target = self.learned(row, place, spec)
            if spec["make"] == "loss_mask":
                found[row, place] = target >= 0
            else:
                found[row, place] = ignore if target < 0 else self.piece(row, place)["tokens"][target]
        return found

    def positions(self, spec):
        found = self.position.copy()
        if spec.get("pad") != "count":
            return numpy.where(self.segment > 0, found, spec.get("pad", 0))
        for number, row in enumerate(self.rows):
            before = 0 if self.side == "right" else self.length - sum(len(piece["tokens"]) for piece in row)
            found[number, :before] = 0
            at = before + sum(len(piece["tokens"]) for piece in row)
            last = len(row[-1]["tokens"]) if row else 0
            if row or self.side == "right":
                found[number, at:] = range(last, last + self.length - at)
            else:
                found[number] = 0
        return found

    def make(self, spec):
        word, inside = spec["make"], self.segment > 0
        lengths = [len(piece["tokens"]) for piece in self.pieces]
        default = {"loss_mask": "float32", "position_ids": "int64", "token_type_ids": "int64", "labels": "int64",
                   "special_tokens_mask": "int64", "lengths": "int64"}.get(word, "int32")
        found = {"segments": lambda: self.segment, "position_ids": lambda: self.positions(spec),
                 "token_type_ids": lambda: numpy.where(inside, 0, spec.get("pad", 0)),
                 "labels": lambda: self.labels(spec), "loss_mask": lambda: self.labels(spec),
                 "special_tokens_mask": lambda: numpy.isin(self.tokens, spec.get("ids", [])) | ~inside,
                 "lengths": lambda: numpy.array(lengths, int),
                 "cu_seqlens": lambda: numpy.cumsum([0, *lengths]),
                 "cu_seqlens_padded": lambda: numpy.array([*self.starts, self.segment.size]),
                 "max_seqlen": lambda: numpy.array([max(lengths)])}[word]()
        return found.astype(DTYPES[spec.get("dtype", default)])

    def blocks(self, spec):
        """kv_num_blocks, kv_indices, full_kv_num_blocks, full_kv_indices: by counting a dense mask."""
        size = spec.get("block", 128)
        keep = self.mask(spec.get("mask", {"all": ["segments", "causal"]}))
        count = -(-self.length // size)
        whole = numpy.zeros((len(self.rows), count * size, count * size), bool)
        whole[:, :self.length, :self.length] = keep
        sums = whole.reshape(-1, count, size, count, size).sum((2, 4))
        found = []
        for wanted in ((sums > 0) & (sums < size * size), sums == size * size):
            order = numpy.argsort(~wanted, axis=-1, kind="stable")
            found += [wanted.sum(-1)[:, None].astype(numpy.int32), order[:, None].astype(numpy.int32)]
        return found

    def column(self, spec):
        name = spec.get("from", "tokens")
        if name == "lengths":
            return numpy.array([len(piece["tokens"]) for piece in self.pieces], DTYPES[spec.get("dtype", "int64")])
        if name == "label":
            return numpy.array([piece["label"] for piece in self.pieces], DTYPES[spec.get("dtype", "int64")])
        dtype = DTYPES[spec.get("dtype", "int64" if name == "tokens" else "float32")]
        found = numpy.full(self.segment.shape, spec.get("pad", self.pad if name == "tokens" else 0), dtype)
        for (row, place), segment in numpy.ndenumerate(self.segment):
            if segment:
                found[row, place] = self.piece(row, place)[name][self.position[row, place]]
        return found

    def tensors(self, specs):
        found = {}
        for name, spec in specs.items():
            if spec.get("make") == "block_lists":
                parts = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices")
                found.update({f"{name}.{part}": value for part, value in zip(parts, self.blocks(spec))})
            elif "make" in spec:
                found[name] = self.make(spec)
            elif "mask" in spec:
                found[name] = self.make_mask(spec)
            elif "apply" in spec:
                data, keep = self.column(spec), self.make_mask({"mask": spec["apply"]["mask"]})
                with numpy.errstate(invalid="ignore"):
                    found[name] = data * keep if spec["apply"].get("mode") == "mul" else numpy.where(keep, data, 0)
            else:
                found[name] = self.column(spec)
        return found
