#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes packed.json: packed rows, and what PyTorch (FlexAttention's create_block_mask, tril, isin), transformers
(DataCollatorWithFlattening) and Megatron's rule for documents that end with a token make of them.

Needs a torch with FlexAttention (2.5 or newer) and transformers; no GPU. `make_packed.py --check` compares
instead of writing, and ends with 77 where these libraries are too old. tests/process/test_packed_tensors.py packs
the sequences and compares what the daemon delivers. Rows are filled in order (`pool: 1`)."""
import base64
import json
import pathlib
import random
import sys
import zlib

import numpy
import torch

FILE = pathlib.Path(__file__).with_name("packed.json")
END = 9  # the token that ends a document, for Megatron
VIEWS = {torch.float16: torch.int16, torch.bfloat16: torch.int16, torch.float32: torch.int32}
PARTS = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices")


def record(tensor):
    bits = tensor.contiguous().view(VIEWS.get(tensor.dtype, tensor.dtype)).flatten().to(torch.int64)
    text = base64.b64encode(zlib.compress(bits.numpy().astype("<i8").tobytes(), 9)).decode()
    return {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape), "bits": text}


def fill(sequences, length):
    """Rows in order: a sequence that does not fit begins the next row."""
    rows = [[]]
    for tokens in sequences:
        if sum(map(len, rows[-1])) + len(tokens) > length:
            rows.append([])
        rows[-1].append(tokens)
    return rows


def segments(rows, length):
    found = [torch.cat([torch.full((len(tokens),), number + 1) for number, tokens in enumerate(row)]) for row in rows]
    return torch.stack([torch.nn.functional.pad(row, (0, length - len(row))) for row in found])


def tokens_of(rows, length):
    found = [torch.tensor([token for tokens in row for token in tokens]) for row in rows]
    return torch.stack([torch.nn.functional.pad(row, (0, length - len(row))) for row in found])


# ---- transformers: one row is one flattened batch, the tail a sequence without labels

def flattened(row, length):
    from transformers import DataCollatorWithFlattening
    features = [{"input_ids": tokens, "labels": tokens} for tokens in row]
    tail = length - sum(map(len, row))
    if tail:
        features.append({"input_ids": [0] * tail, "labels": [-100] * tail})
    found = DataCollatorWithFlattening(return_flash_attn_kwargs=True)(features, return_tensors="pt")
    found["max_length_q"] = torch.tensor([found["max_length_q"]], dtype=torch.int32)
    found["max_length_k"] = torch.tensor([found["max_length_k"]], dtype=torch.int32)
    return {name: record(found[name]) for name in ("input_ids", "position_ids", "labels", "cu_seq_lens_q",
                                                   "cu_seq_lens_k", "max_length_q", "max_length_k")}


# ---- Megatron

def megatron(rows, length):
    """Labels of the next token in each document, positions that restart with it and go on over the padding."""
    tokens, labels, loss, positions = [], [], [], []
    for row in rows:
        own = [torch.tensor(document) for document in row]
        tail = length - sum(map(len, own))
        tokens.append(torch.nn.functional.pad(torch.cat(own), (0, tail)))
        next_one = [torch.nn.functional.pad(document[1:], (0, 1), value=-1) for document in own]
        target = torch.nn.functional.pad(torch.cat(next_one), (0, tail), value=-1)
        labels.append(torch.where(target < 0, 0, target))
        loss.append((target >= 0).float())
        lengths = [*map(len, own[:-1]), len(own[-1]) + tail]
        positions.append(torch.cat([torch.arange(count) for count in lengths]))
    found = {"tokens": tokens, "labels": labels, "loss_mask": loss, "position_ids": positions}
    return {name: record(torch.stack(value)) for name, value in found.items()}


def left_to_right(row):
    """Megatron's attention_mask (True masks out) and position_ids of full rows, by the tokens that end
    documents: what comes behind such a token does not see up to it, and counts anew."""
    tokens = torch.tensor([token for document in row for token in document])
    mask = torch.ones(len(tokens), len(tokens)).tril()
    positions = torch.arange(len(tokens))
    begin = 0
    for end in (tokens == END).nonzero().flatten().tolist():
        mask[end + 1:, :end + 1] = 0
        positions[end + 1:] -= end + 1 - begin
        begin = end + 1
    return mask < 0.5, positions


# ---- PyTorch

def block_mask(segment, mask, length, block):
    from torch.nn.attention.flex_attention import create_block_mask
    flags = mask if isinstance(mask, list) else [mask]

    def keeps(b, h, query, place):
        found = query == query
        for flag in flags:
            if flag == "segments":
                found = found & (segment[b, query] == segment[b, place]) & (segment[b, query] > 0)
            elif flag == "causal":
                found = found & (place <= query)
            elif flag == "lengths":
                found = found & (segment[b, place] > 0)
            else:
                found = found & (query - place < flag["window"])
        return found

    found = create_block_mask(keeps, segment.shape[0], 1, length, length, device="cpu", BLOCK_SIZE=block)
    return [found.kv_num_blocks, found.kv_indices, found.full_kv_num_blocks, found.full_kv_indices]


def torch_tensors(rows, length, masks, block):
    segment, tokens = segments(rows, length), tokens_of(rows, length)
    lengths = torch.tensor([len(document) for row in rows for document in row])
    same = (segment[:, :, None] == segment[:, None, :]) & (segment[:, :, None] > 0)
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    keep = (same & causal)[:, None]
    low = torch.finfo(torch.bfloat16).min
    found = {
        "segments": segment.int(), "seen": same[:, None], "causal": keep,
        "added": torch.zeros(keep.shape, dtype=torch.bfloat16).masked_fill(~keep, low),
        "ordinary": ~torch.isin(tokens, torch.tensor([2, 5])),
        "chosen": torch.where(torch.isin(tokens, torch.tensor([2, 5])), 0, tokens),
        "sums": torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).int(), "longest": lengths.max()[None].int()}
    for number, mask in enumerate(masks):
        found.update({f"b{number}.{part}": tensor
                      for part, tensor in zip(PARTS, block_mask(segment, mask, length, block))})
    return {name: record(tensor) for name, tensor in found.items()}


def torch_specs(masks, block):
    whole = [mask if len(mask) > 1 else mask[0] for mask in masks]
    return {
        "segments": {"make": "segments"}, "seen": {"mask": "segments", "shape": "dense"},
        "causal": {"mask": {"all": ["segments", "causal"]}, "shape": "dense"},
        "added": {"mask": {"all": ["segments", "causal"]}, "shape": "dense", "polarity": "additive",
                  "dtype": "bfloat16"},
        "ordinary": {"mask": {"token_ids": [2, 5]}}, "chosen": {"apply": {"mask": {"token_ids": [2, 5]}}},
        "sums": {"make": "cu_seqlens"}, "longest": {"make": "max_seqlen"},
        **{f"b{number}": {"make": "block_lists", "block": block,
                          "mask": {"all": mask} if isinstance(mask, list) else mask}
           for number, mask in enumerate(whole)}}


# ---- cases

def draw_sequences(draw, count, longest):
    return [[draw.randrange(1, 9) for _ in range(draw.choice([1, 2, 16, 32, draw.randrange(1, longest + 1)]))]
            for _ in range(count)]


def feed(length, size, tensors):
    return {"batch": {"policy": "pack", "size": size, "length": length, "pool": 1}, "tensors": tensors}


def cases():
    draw = random.Random(1)
    for length in (40, 64, 33):
        sequences = draw_sequences(draw, 12, min(length, 33))
        yield {"sequences": sequences, "feed": feed(length, 1, "hf_packed_lm"),
               "batches": [flattened(row, length) for row in fill(sequences, length)]}
    for length in (40, 64):
        sequences = draw_sequences(draw, 12, 40)
        rows = fill(sequences, length)
        yield {"sequences": sequences, "feed": feed(length, 3, "megatron"),
               "batches": [megatron(rows[at:at + 3], length) for at in range(0, len(rows), 3)]}
    for cuts in ([8, 1, 15], [24], [5, 5, 5, 9]):  # full rows
        sequences = [[*draw.choices(range(1, 9), k=count - 1), END] for count in cuts]
        mask, positions = left_to_right(sequences)
        tensors = {"attention_mask": {"mask": {"all": ["segments", "causal"]}, "shape": "dense", "polarity": "masked"},
                   "position_ids": {"make": "position_ids", "pad": "count"}}
        yield {"sequences": sequences, "feed": feed(24, 1, tensors),
               "batches": [{"attention_mask": record(mask[None, None]), "position_ids": record(positions[None])}]}
    for length, block, masks in ((100, 16, [["segments", "causal"], ["segments"], ["causal", {"window": 20}]]),
                                 (96, 32, [["segments", "causal", {"window": 9}], ["lengths", "causal"], ["causal"]]),
                                 (300, 128, [["segments", "causal"], ["segments"], ["lengths", {"window": 50}]])):
        sequences = draw_sequences(draw, 14, length)
        rows = fill(sequences, length)
        yield {"sequences": sequences, "feed": feed(length, 2, torch_specs(masks, block)),
               "batches": [torch_tensors(rows[at:at + 2], length, masks, block) for at in range(0, len(rows), 2)]}


def main():
    try:
        from torch.nn.attention.flex_attention import create_block_mask  # noqa: F401
        from transformers import DataCollatorWithFlattening
        DataCollatorWithFlattening(return_flash_attn_kwargs=True)
    except (ImportError, TypeError) as reason:
        print(f"these libraries are too old: {reason}")
        return 77
    text = "[\n" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases()) + "\n]\n"
    if "--check" not in sys.argv:
        FILE.write_text(text, encoding="utf-8")
        return 0
    # Compressed bytes depend on zlib's version: compare what they hold.
    same = unpacked(json.loads(FILE.read_text(encoding="utf-8"))) == unpacked(json.loads(text))
    print("packed.json is what these libraries make" if same else "packed.json differs from what they make")
    return 0 if same else 1


def unpacked(found):
    for case in found:
        for batch in case["batches"]:
            for tensor in batch.values():
                bits = zlib.decompress(base64.b64decode(tensor["bits"]))
                tensor["bits"] = numpy.frombuffer(bits, "<i8").tolist()
    return found


if __name__ == "__main__":
    sys.exit(main())
