#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes masks.json: batches, and what PyTorch's own expressions make of them.

Needs torch (any build, no GPU). `make_masks.py --check` compares instead of writing. Each case has
sequences, a feed's settings, and for each tensor dtype, shape and the elements' bits, row after row.
tests/process/test_masks.py packs the sequences and compares what the daemon delivers.
"""
import json
import pathlib
import random
import sys

import torch

FILE = pathlib.Path(__file__).with_name("masks.json")
IGNORE = -100
FLOATS = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
DTYPES = {"bool": torch.bool, "uint8": torch.uint8, "int32": torch.int32, "int64": torch.int64, **FLOATS}
VIEWS = {torch.float16: torch.int16, torch.bfloat16: torch.int16, torch.float32: torch.int32}


class Batch:
    """One padded batch, by torch alone."""

    def __init__(self, rows, side, multiple_of, pad):
        self.rows, self.side, self.pad = rows, side, pad
        self.lengths = torch.tensor([len(row["tokens"]) for row in rows])
        length = int(self.lengths.max())
        self.length = -(-length // multiple_of) * multiple_of
        self.place = torch.arange(self.length)
        self.tokens = self.padded([torch.tensor(row["tokens"], dtype=torch.int64) for row in rows], pad)
        self.first = self.length - self.lengths if side == "left" else torch.zeros_like(self.lengths)

    def padded(self, rows, value):
        out = torch.full((len(rows), self.length), value, dtype=rows[0].dtype)
        for number, row in enumerate(rows):
            first = self.length - len(row) if self.side == "left" else 0
            out[number, first:first + len(row)] = row
        return out

    # ---- masks: [rows, 1, length] or [rows, length, length], True keeps

    def from_lengths(self):
        if self.side == "left":
            return (self.place >= (self.length - self.lengths)[:, None])[:, None]
        return (self.place < self.lengths[:, None])[:, None]

    def from_indices(self, indices):
        mask = torch.ones(len(self.rows), 1, self.length, dtype=torch.bool)
        for number, row in enumerate(self.rows):
            listed = row[indices] if isinstance(indices, str) else indices
            mask[number, 0, torch.tensor(listed, dtype=torch.int64)] = False
        return mask

    def mask(self, expression):
        if expression == "lengths":
            return self.from_lengths()
        if expression == "causal":
            return torch.ones(self.length, self.length, dtype=torch.bool).tril()[None]
        (word, value), = expression.items()
        if word == "window":
            return (self.place[:, None] - self.place[None, :] < value)[None]
        if word == "indices":
            return self.from_indices(value)
        if word == "token_ids":
            return (~torch.isin(self.tokens, torch.tensor(value, dtype=torch.int64)))[:, None]
        if word == "not":
            return ~self.mask(value)
        whole = torch.full((1, 1, 1), word == "all")
        for part in value:
            whole = whole & self.mask(part) if word == "all" else whole | self.mask(part)
        return whole

    def make_mask(self, spec):
        keep = self.mask(spec["mask"])
        dtype = DTYPES[spec.get("dtype", "bool")]
        queries = self.length if spec.get("shape") == "dense" else 1
        keep = keep.expand(len(self.rows), queries, self.length)
        keep = keep[:, None] if spec.get("shape") == "dense" else keep[:, 0]
        if spec.get("polarity") == "additive":
            low = float("-inf") if spec.get("fill") == "-inf" else torch.finfo(dtype).min
            return torch.zeros(keep.shape, dtype=dtype).masked_fill(~keep, low)
        return (~keep if spec.get("polarity") == "masked" else keep).to(dtype)

    # ---- the rest

    def learned(self, spec):
        """Which place learns which token: the sequence's own index of the target, or -1."""
        shift = spec.get("shift", "none") != "none"
        inside = self.from_lengths()[:, 0]
        target = torch.where(inside, self.place[None] - self.first[:, None] + shift, -1)
        target = torch.where(target < self.lengths[:, None], target, -1)
        if "spans" in spec:
            wanted = torch.zeros_like(inside)
            for number, row in enumerate(self.rows):
                for first, end in zip(row[spec["spans"]][::2], row[spec["spans"]][1::2]):
                    wanted[number] |= (target[number] >= first) & (target[number] < end)
            target = torch.where(wanted, target, -1)
        return target

    def make(self, spec):
        word = spec["make"]
        dtype = DTYPES[spec.get("dtype", "float32" if word == "loss_mask" else "int64")]
        inside = self.from_lengths()[:, 0]
        if word == "position_ids":
            position = self.place[None] - self.first[:, None]
            return torch.where(inside, position, spec.get("pad", 0)).to(dtype)
        if word == "token_type_ids":
            return torch.where(inside, 0, spec.get("pad", 0)).to(dtype)
        if word == "special_tokens_mask":
            return (torch.isin(self.tokens, torch.tensor(spec["ids"])) | ~inside).to(dtype)
        target = self.learned(spec)
        if word == "loss_mask":
            return (target >= 0).to(dtype)
        ignore = spec.get("ignore", 0 if spec.get("shift") == "megatron" else IGNORE)
        source = (target + self.first[:, None]).clamp(0, max(self.length - 1, 0))
        return torch.where(target >= 0, self.tokens.gather(1, source), ignore).to(dtype)

    def column(self, spec):
        name = spec.get("from", "tokens")
        if name == "tokens":
            return self.tokens.to(DTYPES[spec.get("dtype", "int64")])
        rows = [torch.tensor([float(value) for value in row[name]], dtype=torch.float32) for row in self.rows]
        return self.padded(rows, float(spec.get("pad", 0)))

    def tensor(self, spec):
        if "mask" in spec:
            return self.make_mask(spec)
        if "make" in spec:
            return self.make(spec)
        data, mask = self.column(spec), self.mask(spec["apply"]["mask"])[:, 0]
        mask = mask.expand(data.shape)
        if spec["apply"].get("mode") == "mul":
            return data * mask
        return torch.where(mask, data, torch.zeros_like(data))


MASKS = ["lengths", {"token_ids": [2, 0, 9, 2]}, {"token_ids": []}, {"indices": [0, -1, 0]}, {"indices": []},
         {"indices": "holes"}, {"not": "lengths"}, {"all": ["lengths", {"indices": "holes"}, {"token_ids": [5]}]},
         {"any": [{"not": "lengths"}, {"token_ids": [1, 3, 4, 5, 6]}]}, {"all": []}, {"any": []}]
DENSE = ["causal", {"window": 3}, {"all": ["causal", "lengths"]}, {"all": ["lengths", {"window": 2}, "causal"]},
         {"any": ["causal", {"token_ids": [3, 7]}]}, {"all": [{"not": "causal"}, {"indices": "holes"}]}, "lengths"]


def draw_sequence(draw, length):
    tokens = [draw.randrange(10) for _ in range(length)]
    cuts = sorted(draw.choices(range(length + 1), k=4))
    value = lambda: draw.choice([0.0, -0.0, 1.5, -2.25, 3.0e38, 1e-40])
    return {"tokens": tokens, "weight": [value() for _ in range(length)],
            "holes": draw.choices(range(-2, 2), k=draw.randrange(4)), "spans": cuts if draw.random() < .8 else []}


def draw_tensors(draw):
    tensors = {}
    for number in range(3):
        dtype = draw.choice(list(DTYPES))
        tensors[f"rows{number}"] = {"mask": draw.choice(MASKS), "dtype": dtype,
                                    "polarity": draw.choice(["keep", "masked"])}
    tensors["added"] = {"mask": draw.choice(MASKS), "dtype": draw.choice(list(FLOATS)), "polarity": "additive",
                        "fill": draw.choice(["min", "-inf"])}
    tensors["dense"] = {"mask": draw.choice(DENSE), "shape": "dense", "dtype": draw.choice(list(DTYPES)),
                        "polarity": draw.choice(["keep", "masked"])}
    tensors["dense_added"] = {"mask": draw.choice(DENSE), "shape": "dense", "dtype": draw.choice(list(FLOATS)),
                              "polarity": "additive"}
    tensors["chosen"] = {"apply": {"mask": draw.choice(MASKS)}, "dtype": draw.choice(["int32", "int64", "float32"])}
    tensors["product"] = {"from": "weight", "dtype": "float32", "apply": {"mask": draw.choice(MASKS), "mode": "mul"}}
    for number in range(2):
        spec = {"make": "labels", "shift": draw.choice(["none", "next", "megatron"]),
                "dtype": draw.choice(["int32", "int64"])}
        if draw.random() < .5:
            spec["spans"] = "spans"
        if spec["shift"] != "megatron" and draw.random() < .5:
            spec["ignore"] = -1
        tensors[f"labels{number}"] = spec
        tensors[f"loss{number}"] = {key: value for key, value in spec.items() if key in ("shift", "spans")}
        tensors[f"loss{number}"].update(make="loss_mask", dtype=draw.choice(list(DTYPES)))
    tensors["positions"] = {"make": "position_ids", "pad": draw.choice([0, 1]), "dtype": draw.choice(["int32", "int64"])}
    tensors["types"] = {"make": "token_type_ids", "pad": draw.choice([0, 1])}
    tensors["special"] = {"make": "special_tokens_mask", "ids": draw.choices(range(10), k=3)}
    return tensors


def bits(tensor):
    return tensor.contiguous().view(VIEWS.get(tensor.dtype, tensor.dtype)).flatten().to(torch.int64).tolist()


def make_case(number):
    draw = random.Random(number)
    # The indices drawn above need two places; rows may be shorter, batches not.
    lengths = [draw.randrange(2, 12)] + [draw.choice([0, 1, draw.randrange(14)]) for _ in range(draw.randrange(5))]
    draw.shuffle(lengths)
    rows = [draw_sequence(draw, length) for length in lengths]
    side, multiple_of, pad = draw.choice(["right", "left"]), draw.choice([1, 4, 16, 17]), draw.choice([0, 7])
    tensors = draw_tensors(draw)
    batch = Batch(rows, side, multiple_of, pad)
    expected = {}
    for name, spec in tensors.items():
        found = batch.tensor(spec)
        expected[name] = {"dtype": str(found.dtype).removeprefix("torch."), "shape": list(found.shape),
                          "bits": bits(found)}
    feed = {"pad": {"side": side, "multiple_of": multiple_of, "value": pad},
            "layout": "time_first" if number % 4 == 3 else "batch_first", "tensors": tensors}
    return {"sequences": rows, "feed": feed, "expected": expected}


def main():
    text = "[\n" + ",\n".join(json.dumps(make_case(number), separators=(",", ":")) for number in range(16)) + "\n]\n"
    if "--check" not in sys.argv:
        FILE.write_text(text, encoding="utf-8")
        return 0
    same = FILE.read_text(encoding="utf-8") == text
    print("masks.json is what PyTorch makes" if same else "masks.json differs from what PyTorch makes")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
