# SPDX-License-Identifier: MIT
"""Random datasets under random settings: what arrives is what torch makes of the rows, bit by bit, with
pad_sequence and the usual expressions for masks. Skipped where torch cannot be imported."""
import random

import numpy
import pytest
import seqfeed

torch = pytest.importorskip("torch", reason="no torch here (python3-torch)")

import seqfeed.torch  # noqa: E402  needs torch

# On disk -> (how to draw, what a tensor of it may be).
WHOLE = {"u8": (250, ("uint8", "int32", "int64")), "u16": (65000, ("int32", "int64")),
         "u24": (1 << 23, ("int32", "int64")), "u32": (1 << 31, ("int64",)),
         "i32": (1 << 31, ("int32", "int64")), "i64": (1 << 62, ("int64",))}
FLOATS = {"f16": ("float16", "float32"), "bf16": ("bfloat16", "float32"), "f32": ("float32",)}
MASK_DTYPES = ("bool", "uint8", "int32", "int64", "float16", "bfloat16", "float32")


def draw_rows(draw, word):
    """(rows as arrays, what they are on disk as torch tensors)."""
    width = draw.choice([1, 1, 3]) if word in FLOATS else 1
    lengths = [draw.randint(0, 30) for _ in range(draw.randint(20, 60))]
    lengths[0] = 30
    number = numpy.random.default_rng(draw.randrange(1 << 30))
    if word in FLOATS:
        rows = [number.normal(0, 100, (n, width) if width > 1 else n).astype("float32") for n in lengths]
        on_disk = getattr(torch, FLOATS[word][0])
        return rows, [torch.from_numpy(row).to(on_disk) for row in rows]
    low, high = (-WHOLE[word][0] if word[0] == "i" else 0), WHOLE[word][0]
    rows = [number.integers(low, high, n) for n in lengths]
    return rows, [torch.from_numpy(row.astype("int64")) for row in rows]


def padded(rows, side, value, length, dtype):
    """pad_sequence, on the side, to that length."""
    turned = [row.to(dtype) if side == "right" else row.to(dtype).flip(0) for row in rows]
    # One row of full length more, so that pad_sequence pads to it.
    turned.append(torch.zeros((length, *rows[0].shape[1:]), dtype=dtype))
    whole = torch.nn.utils.rnn.pad_sequence(turned, batch_first=True, padding_value=value)[:-1]
    return whole if side == "right" else whole.flip(1)


def masks_of(tokens, rows, side, indices, ids):
    """The three masks of sequence models, and what combines them."""
    lengths = torch.tensor([len(row) for row in rows])
    real = torch.arange(tokens.shape[1]).unsqueeze(0) < lengths.unsqueeze(1)
    real = real if side == "right" else real.flip(1)
    holes = torch.ones(real.shape, dtype=torch.bool)
    holes[:, indices] = False
    flat = tokens if tokens.dim() == 2 else tokens[:, :, 0]
    known = ~torch.isin(flat, torch.tensor(ids, dtype=flat.dtype)) if ids is not None else real
    return {"real": real, "holes": holes, "known": known, "all": real & holes & known,
            "any": holes | ~real, "none": ~(real & known)}


def settings(draw, word, rows, indices, ids):
    """The tensors of the feed: name -> specification."""
    types = FLOATS[word] if word in FLOATS else WHOLE[word][1]
    known = {"token_ids": ids} if ids is not None else "lengths"
    expressions = {"real": "lengths", "holes": {"indices": indices}, "known": known,
                   "all": {"all": ["lengths", {"indices": indices}, known]},
                   "any": {"any": [{"indices": indices}, {"not": "lengths"}]},
                   "none": {"not": {"all": ["lengths", known]}}}
    tensors = {"tokens": {"from": "tokens", "dtype": draw.choice(types)}}
    for name, expression in expressions.items():
        tensors[name] = {"mask": expression, "dtype": draw.choice(MASK_DTYPES)}
    if rows[0].ndim == 1:
        for mode in ("mul", "select"):
            tensors[mode] = {"apply": {"mask": expressions["all"], "mode": mode},
                             "dtype": tensors["tokens"]["dtype"]}
    return tensors


def same_bits(one, other):
    """NaN and the sign of zero count."""
    bits = {2: torch.int16, 4: torch.int32}.get(one.element_size()) if one.is_floating_point() else None
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(
        *((each.contiguous().view(bits) for each in (one, other)) if bits else (one, other)))


@pytest.mark.parametrize("word", [*WHOLE, *FLOATS])
@pytest.mark.parametrize("seed", range(3))
def test_what_arrives_is_what_torch_makes(start, tmp_path, word, seed):
    draw = random.Random(f"{word}{seed}")
    rows, wanted_rows = draw_rows(draw, word)
    side, layout, size = draw.choice(["right", "left"]), draw.choice(["batch_first", "time_first"]), draw.randint(1, 9)
    value = draw.choice([0, 0, 7])
    length, indices = draw.choice([32, 40]), sorted(draw.sample(range(30), 4))
    some = numpy.concatenate([row.ravel() for row in rows])
    ids = None if word in FLOATS else [*map(int, some[:5]), value]
    seqfeed.pack(rows, tmp_path / "data", token_type=word)
    tensors = settings(draw, word, rows, indices, ids)
    daemon = start(tmp_path / "data", order={"shuffle": False}, batch={"size": size}, layout=layout,
                   pad={"side": side, "to": length, "value": value}, tensors=tensors, ring={"slots": 3})
    loader = seqfeed.torch.Loader("train", socket=daemon.socket, zero_copy=draw.random() < 0.5)
    for _ in range(2):  # what a slot keeps from the batch before must be gone
        for number, batch in enumerate(loader):
            part = wanted_rows[number * size:number * size + size]
            dtype = getattr(torch, tensors["tokens"]["dtype"])
            tokens = padded(part, side, value, length, dtype)
            wanted = {"tokens": tokens, **masks_of(tokens, part, side, indices, ids)}
            if "mul" in tensors:
                keep = wanted["all"]
                wanted["mul"] = tokens * keep.to(dtype)
                wanted["select"] = torch.where(keep, tokens, torch.zeros((), dtype=dtype))
            for name, each in wanted.items():
                each = each.to(getattr(torch, tensors[name]["dtype"]))
                each = each.transpose(0, 1) if layout == "time_first" else each
                assert same_bits(batch[name], each), (name, tensors[name], number)
        assert number == -(-len(rows) // size) - 1
        del batch
