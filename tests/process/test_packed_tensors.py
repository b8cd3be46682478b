# SPDX-License-Identifier: MIT
"""Tensors of packed rows through a real daemon, against numpy place by place (packed_reference.py), what
PyTorch, transformers and Megatron make (tests/golden/make_packed.py), and what is refused."""
import base64
import importlib.util
import json
import pathlib
import random
import subprocess
import sys
import zlib

import expected
import harness
import numpy
import pytest
from packed_reference import PackedBatch

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"
COLUMNS = ["--column", "weight:token:f32", "--column", "holes:ragged:i32", "--column", "spans:ragged:i32"]
ROW_MASKS = ["lengths", {"token_ids": [2, 0, 9, 2]}, {"token_ids": list(range(3, 60))}, {"indices": [0, 5, 5]},
             {"indices": "holes"}, {"not": "lengths"}, {"all": ["lengths", {"indices": "holes"}, {"token_ids": [5]}]},
             {"any": [{"not": "lengths"}, {"token_ids": [1, 3, 4]}]}, {"all": []}]
DENSE = ["segments", {"all": ["segments", "causal"]}, {"all": ["causal", {"window": 5}, "segments"]},
         {"all": ["segments", {"indices": "holes"}, {"token_ids": [3, 7]}, "causal"]},
         {"any": [{"all": ["segments", "causal"]}, {"token_ids": [3]}]}, {"not": {"all": ["segments", "causal"]}},
         {"all": [{"not": "segments"}, {"window": 9}]}]
BLOCKS = [None, "segments", "causal", {"all": ["segments", {"window": 20}]}, {"all": ["causal", {"window": 40}]},
          {"all": ["segments", "causal", {"window": 37}]}, {"all": ["lengths", "causal"]}, "lengths",
          {"all": ["lengths", {"window": 3}]}]


def draw_sequence(draw, length, vocabulary=10):
    cuts = sorted(draw.choices(range(length + 1), k=4))
    return {"tokens": [draw.randrange(vocabulary) for _ in range(length)], "label": draw.randrange(5),
            "weight": [draw.choice([0.0, -0.0, 1.5, -2.25, 3.0e38]) for _ in range(length)],
            "holes": draw.choices(range(length), k=draw.randrange(4)) if length else [],
            "spans": cuts if draw.random() < .8 else []}


def draw_tensors(draw):
    tensors = {"segments": {"make": "segments", "dtype": draw.choice(["int32", "int64"])},
               "tokens": {"from": "tokens"}, "weight": {"from": "weight", "pad": 2}, "label": {"from": "label"},
               "lengths": {"make": "lengths"}, "sums": {"make": "cu_seqlens"}, "begins": {"make": "cu_seqlens_padded"},
               "longest": {"make": "max_seqlen"}, "types": {"make": "token_type_ids", "pad": draw.choice([0, 1])},
               "positions": {"make": "position_ids", "pad": draw.choice([0, 1, "count"])},
               "special": {"make": "special_tokens_mask", "ids": draw.choices(range(10), k=3)}}
    for number in range(2):
        tensors[f"rows{number}"] = {"mask": draw.choice(ROW_MASKS), "dtype": draw.choice(["bool", "int64", "float16"]),
                                    "polarity": draw.choice(["keep", "masked"])}
        tensors[f"dense{number}"] = {"mask": draw.choice(DENSE), "shape": "dense",
                                     "dtype": draw.choice(["bool", "int32", "float32"])}
        spec = {"make": "labels", "shift": draw.choice(["none", "next", "megatron"])}
        if draw.random() < .5:
            spec["spans"] = "spans"
        tensors[f"labels{number}"] = spec
        tensors[f"loss{number}"] = {**spec, "make": "loss_mask"}
    tensors["dense1"].update(polarity="additive", dtype="float32")
    tensors["chosen"] = {"apply": {"mask": draw.choice(ROW_MASKS)}}
    tensors["product"] = {"from": "weight", "apply": {"mask": draw.choice(ROW_MASKS), "mode": "mul"}}
    del tensors[draw.choice(["tokens", "weight", "label", "lengths", "types"])]  # a batch has at most 24
    mask = draw.choice(BLOCKS)
    tensors["blocks"] = {"make": "block_lists", "block": draw.choice([16, 32]), **({"mask": mask} if mask else {})}
    return tensors


def rows_of(known, batch, rows):
    """The pieces of a batch of the order's reference, with what their sequences have."""
    def piece(unit):
        block = known.blocks[unit.block]
        before = int(sum(known.lengths[unit.block][:unit.sequence]))
        found = {"tokens": known.tokens(unit).tolist(), "start": unit.start - before,
                 "whole": known.lengths[unit.block][unit.sequence], "label": int(block.values["label"][unit.sequence]),
                 "weight": block.values["weight"][unit.start:unit.start + unit.length]}
        for name in ("holes", "spans"):
            starts = block.counts[name]
            found[name] = block.values[name][starts[unit.sequence]:starts[unit.sequence + 1]].tolist()
        return found
    found = [[piece(unit) for unit in pieces] for pieces in batch.units]
    return found + [[]] * (rows - len(found))


def same(found, wanted, where):
    assert list(found) == list(wanted), where
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype, (where, name)
        assert found[name].shape == array.shape, (where, name)
        if array.dtype.kind == "f":  # bits, so that -0 is not 0
            bits = numpy.int16 if array.itemsize == 2 else numpy.int32
            assert numpy.array_equal(found[name].view(bits), array.view(bits)), (where, name)
        else:
            assert numpy.array_equal(found[name], array), (where, name)


@pytest.mark.parametrize("number", range(6))
def test_every_tensor_of_packed_rows(tmp_path, number):
    draw = random.Random(number)
    split = number % 3 == 2
    rows = [draw_sequence(draw, draw.choice([0, 1, draw.randrange(20), draw.randrange(60)])) for _ in range(60)]
    rows.append(draw_sequence(draw, 100 if split else 64))
    dataset = harness.pack(tmp_path / "d", rows, "--block", "4KiB", *COLUMNS)
    batch = {"policy": "pack", "size": draw.choice([1, 2, 3]), "length": 64, "pool": draw.choice([3, 256]),
             "last": "pad" if number % 2 else "keep"}
    side, pad, multiple_of = draw.choice(["right", "left"]), draw.choice([0, 7]), draw.choice([1, 16, 17])
    length = {"overflow": "split"} if split else {}
    tensors = draw_tensors(draw)
    config = harness.one_feed(tmp_path / "c.yaml", dataset, order={"seed": number, "window": 2}, batch=batch,
                              length=length, pad={"side": side, "value": pad, "multiple_of": multiple_of},
                              tensors=tensors)
    known = expected.Expected(dataset, seed=number, window=2, batch=batch, side=side, value=pad,
                              multiple_of=multiple_of, **length)
    steps = [step for epoch in range(2) for step in take_epoch(known, epoch)]
    with harness.Daemon(config) as daemon:
        found = daemon.cat(n=len(steps))
    assert len(found) == len(steps)
    for one, batch in zip(found, steps):
        places = expected.plan_reference.row_length(known.spec, batch)
        wanted = PackedBatch(rows_of(known, batch, batch.rows), places, side, pad).tensors(tensors)
        same(one["tensors"], wanted, one["step"])


def test_what_never_changes_moves_when_batches_have_more_sequences(tmp_path):
    """Tensors lie behind those of sequences, whose number differs from batch to batch of one shape."""
    draw = random.Random(9)
    rows = [draw_sequence(draw, draw.choice([1, 2] if number // 300 % 2 else [50, 64])) for number in range(1500)]
    tensors = {"segments": {"make": "segments"}, "sums": {"make": "cu_seqlens"}, "lengths": {"make": "lengths"},
               "holes": {"mask": {"indices": [1, 9]}, "polarity": "masked"}, "types": {"make": "token_type_ids"}}
    dataset = harness.pack(tmp_path / "d", rows, *COLUMNS)
    batch = {"policy": "pack", "size": 4, "length": 64, "pool": 1, "last": "drop"}
    config = harness.one_feed(tmp_path / "c.yaml", dataset, order={"shuffle": False}, batch=batch, tensors=tensors,
                              ring={"slots": 2})
    known = expected.Expected(dataset, shuffle=False, batch=batch)
    counts = set()
    with harness.Daemon(config) as daemon:
        for one, step in zip(daemon.cat(), take_epoch(known, 0)):
            wanted = PackedBatch(rows_of(known, step, step.rows), 64).tensors(tensors)
            counts.add(len(wanted["lengths"]) // 32)
            same(one["tensors"], wanted, one["step"])
    assert len(counts) > 1


def take_epoch(known, epoch):
    steps = expected.plan_reference.stream(known.spec, known.lengths, epoch, 0, 1)
    for step in steps:
        if step.epoch != epoch:
            return
        yield step.batches[0]


@pytest.mark.parametrize("size, mask", [(16, mask) for mask in BLOCKS] + [(128, None), (48, None), (512, None)])
def test_block_lists_are_what_a_dense_mask_counts(tmp_path, size, mask):
    """Rows whose blocks are whole, cut, empty and full of short sequences."""
    draw = random.Random(size)
    rows = [draw_sequence(draw, draw.choice([1, 3, 16, 32, 64, 100, draw.randrange(1, 150)])) for _ in range(40)]
    tensors = {"segments": {"make": "segments"}, "tokens": {"from": "tokens"},
               "b": {"make": "block_lists", **({"mask": mask} if mask else {}), **({"block": size} if size != 128 else {})}}
    dataset = harness.pack(tmp_path / "d", rows, *COLUMNS)
    batch = {"policy": "pack", "size": 2, "length": 200}
    config = harness.one_feed(tmp_path / "c.yaml", dataset, batch=batch, tensors=tensors)
    known = expected.Expected(dataset, batch=batch)
    with harness.Daemon(config) as daemon:
        for one, batch in zip(daemon.cat(), take_epoch(known, 0)):
            wanted = PackedBatch(rows_of(known, batch, batch.rows), 200).tensors(tensors)
            same(one["tensors"], wanted, one["step"])


@pytest.mark.parametrize("side", ["right", "left"])
def test_block_lists_and_segments_of_rows_of_one_sequence(tmp_path, side):
    draw = random.Random(5)
    rows = [draw_sequence(draw, length) for length in (90, 0, 33, 70, 1, 64)]
    tensors = {"tokens": {"from": "tokens"}, "dense": {"mask": {"all": ["segments", "causal"]}, "shape": "dense"}}
    for number, mask in enumerate(BLOCKS):
        tensors[f"b{number}"] = {"make": "block_lists", "block": 16, **({"mask": mask} if mask else {})}
        if len(tensors) == 6:
            break
    dataset = harness.pack(tmp_path / "d", rows, *COLUMNS)
    config = harness.one_feed(tmp_path / "c.yaml", dataset, order={"shuffle": False}, batch={"size": 3},
                              pad={"side": side}, tensors=tensors)
    with harness.Daemon(config) as daemon:
        found = daemon.cat()
    for one, part in zip(found, (rows[:3], rows[3:])):
        length = max(len(row["tokens"]) for row in part)
        batch = PackedBatch([[{**row, "start": 0, "whole": len(row["tokens"])}] for row in part], length, side)
        same(one["tensors"], batch.tensors(tensors), one["step"])


# --- golden files ----------------------------------------------------------------------------------

CASES = json.loads((GOLDEN / "packed.json").read_text())


def bits_of(array):
    if array.dtype.kind == "f":
        array = array.view(numpy.int16 if array.itemsize == 2 else numpy.int32)
    return array.astype(numpy.int64)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_what_pytorch_transformers_and_megatron_make(tmp_path, number):
    case = CASES[number]
    dataset = harness.pack(tmp_path / "d", [{"tokens": tokens} for tokens in case["sequences"]])
    config = harness.one_feed(tmp_path / "c.yaml", dataset, order={"shuffle": False}, **case["feed"])
    with harness.Daemon(config) as daemon:
        found = daemon.cat()
    assert len(found) == len(case["batches"])
    for one, wanted in zip(found, case["batches"]):
        assert set(wanted) <= set(one["tensors"])
        for name, tensor in wanted.items():
            array = one["tensors"][name]
            bits = numpy.frombuffer(zlib.decompress(base64.b64decode(tensor["bits"])), "<i8")
            if tensor["dtype"] == "bfloat16":  # numpy has none: the upper half of float32
                array = (array.view(numpy.uint32) >> 16).astype(numpy.uint16).view(numpy.int16)
            else:
                assert str(array.dtype) == tensor["dtype"], name
            assert list(array.shape) == tensor["shape"], name
            assert numpy.array_equal(bits_of(array).flatten(), bits), name


def test_the_golden_file_is_what_these_libraries_make():
    for name in ("torch", "transformers"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"no {name} here")
    ran = subprocess.run([sys.executable, GOLDEN / "make_packed.py", "--check"], capture_output=True, text=True,
                         check=False)
    if ran.returncode == 77:
        pytest.skip(ran.stdout.strip())
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_model_of_transformers_keeps_the_sequences_of_a_row_apart(tmp_path):
    """What it says of a sequence in a row of hf_packed_lm is what it says of that sequence alone."""
    torch = pytest.importorskip("torch", reason="no torch here")
    transformers = pytest.importorskip("transformers", reason="no transformers here")
    draw = random.Random(1)
    sequences = [[draw.randrange(1, 50) for _ in range(count)] for count in (5, 9, 3, 12, 7, 1)]
    dataset = harness.pack(tmp_path / "d", [{"tokens": tokens} for tokens in sequences])
    config = harness.one_feed(tmp_path / "c.yaml", dataset, order={"shuffle": False},
                              batch={"policy": "pack", "size": 1, "length": 40, "pool": 1}, tensors="hf_packed_lm")
    with harness.Daemon(config) as daemon:
        batch = {name: torch.from_numpy(array.copy()) for name, array in daemon.cat()[0]["tensors"].items()}
    for name in ("max_length_q", "max_length_k"):
        batch[name] = int(batch[name])
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=60, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)).eval()
    with torch.no_grad():
        logits, at = model(**batch, use_cache=False).logits[0], 0
        for tokens in sequences:
            alone = model(input_ids=torch.tensor([tokens])).logits[0]
            assert torch.allclose(logits[at:at + len(tokens)], alone, atol=1e-5)
            at += len(tokens)


# --- lists of token ids ----------------------------------------------------------------------------

@pytest.mark.parametrize("kind, highest", [("u8", 255), ("u16", 65535), ("u24", 2**24 - 1), ("u32", 2**32 - 1),
                                           ("i64", 2**40)])
def test_lists_of_token_ids_of_every_length(tmp_path, kind, highest):
    """Short ones, long ones, and long ones of large ids take different ways."""
    draw = random.Random(highest)
    pool = [draw.randrange(highest + 1) for _ in range(300)] + list(range(100))
    rows = [{"tokens": draw.choices(pool, k=draw.randrange(1, 200))} for _ in range(30)]
    lists = {"none": [], "one": pool[:1], "five": pool[:5], "fifteen": pool[:15], "many": pool[:200],
             "most": [draw.choice((draw.choice(pool), draw.randrange(highest + 1))) for _ in range(3400)],
             "low": list(range(0, 100, 3)), "foreign": [-1, 2**50, *pool[:3]], "padding": [7, 7, *range(20)]}
    tensors = {name: {"mask": {"token_ids": ids}} for name, ids in lists.items()}
    tensors["special"] = {"make": "special_tokens_mask", "ids": lists["many"], "dtype": "uint8"}
    tensors["special_few"] = {"make": "special_tokens_mask", "ids": lists["five"]}
    dataset = harness.pack(tmp_path / "d", rows, "--token-type", kind)
    config = harness.one_feed(tmp_path / "c.yaml", dataset, order={"shuffle": False}, batch={"size": 8},
                              pad={"value": 7}, tensors=tensors)
    with harness.Daemon(config) as daemon:
        found = daemon.cat()
    for one in found:
        part = [row["tokens"] for row in rows[8 * one["step"]:8 * one["step"] + 8]]
        padded = numpy.full((len(part), max(map(len, part))), 7)
        inside = numpy.zeros(padded.shape, bool)
        for number, tokens in enumerate(part):
            padded[number, :len(tokens)] = tokens
            inside[number, :len(tokens)] = True
        for name, ids in lists.items():
            assert numpy.array_equal(one["tensors"][name], ~numpy.isin(padded, numpy.array(ids, int))), name
        for name, ids in (("special", lists["many"]), ("special_few", lists["five"])):
            wanted = numpy.isin(padded, numpy.array(ids, int)) | ~inside
            assert numpy.array_equal(one["tensors"][name], wanted), name


# --- what is refused -------------------------------------------------------------------------------

PACK = {"policy": "pack", "size": 2, "length": 16}


@pytest.mark.parametrize("batch, tensors, reason", [
    (PACK, "hf_causal_lm", "would let the sequences of a packed row see each other"),
    (PACK, "hf_classification", "would let the sequences of a packed row see each other"),
    (PACK, "hf_packed_lm", "needs batch.policy: pack, size: 1"),
    ({"size": 1}, "hf_packed_lm", "needs batch.policy: pack, size: 1"),
    (PACK, {"tokens": {"from": "tokens"}, "mask": {"mask": "lengths"}}, "would see each other; add {make: segments}"),
    (PACK, {"position_ids": {"make": "position_ids"}, "mask": {"mask": "lengths", "dtype": "int64"}},
     "would see each other"),
    (PACK, {"s": {"make": "segments"}, "attention_mask": {"mask": "lengths"}}, "do not look for packed rows"),
    (PACK, {"mask": {"mask": {"all": ["causal", "lengths"]}, "shape": "dense"}}, "would see each other"),
    (PACK, {"blocks": {"make": "block_lists", "mask": "causal"}}, "would see each other"),
    (PACK, {"mask": {"mask": "segments"}}, "segments says which place sees which"),
    (PACK, {"mask": {"mask": {"all": ["segments", "causal"]}, "shape": "dense", "polarity": "additive",
                     "dtype": "float32", "fill": "-inf"}}, "which padding sees nothing of"),
    (PACK, {"blocks": {"make": "block_lists", "mask": {"any": ["segments", "causal"]}}}, "block_lists know segments"),
    (PACK, {"blocks": {"make": "block_lists", "mask": {"token_ids": [1]}}}, "block_lists know segments"),
    (PACK, {"blocks": {"make": "block_lists", "block": 15}}, "allowed: 16 to 65536"),
    (PACK, {"blocks": {"make": "block_lists", "dtype": "int32"}}, "block_lists, which are int32"),
    (PACK, {"blocks_of_a_row": {"make": "block_lists"}}, "a name of at most 12"),
    (PACK, {"b": {"make": "block_lists"}, "b.kv_indices": {"from": "tokens"}}, "has the name of one of the tensors"),
    (PACK, {f"b{number}": {"make": "block_lists"} for number in range(7)}, "at most 24"),
    (PACK, {"s": {"make": "segments"}, "m": {"make": "token_type_ids", "pad": "count"}}, "count is for position_ids"),
    (PACK, {"s": {"make": "segments", "dtype": "float32"}}, "allowed: int32, int64"),
    ({"size": 2}, {"s": {"make": "segments"}}, "is for rows of several sequences"),
    ({"size": 2}, {"c": {"make": "cu_seqlens"}}, "is for rows of several sequences"),
    ({"size": 2}, {"c": {"make": "max_seqlen"}}, "is for rows of several sequences"),
    ({"size": 2}, {"m": {"from": "tokens", "block": 16}}, "is for block_lists"),
])
def test_what_is_unsafe_or_means_nothing_is_refused_at_start(tmp_path, batch, tensors, reason):
    dataset = harness.pack(tmp_path / "d", [{"tokens": [1, 2, 7]}, {"tokens": [3]}])
    config = harness.one_feed(tmp_path / "c.yaml", dataset, batch=batch, tensors=tensors)
    ran = subprocess.run([harness.DAEMON, "--check", "--config", config], capture_output=True, text=True,
                         env=harness.environment(), check=False)
    assert ran.returncode == 78, ran.stderr
    assert reason in ran.stderr
    assert "c.yaml:" in ran.stderr


def test_padding_in_front_does_not_go_with_hf_packed_lm(tmp_path):
    dataset = harness.pack(tmp_path / "d", [{"tokens": [1, 2, 7]}])
    config = harness.one_feed(tmp_path / "c.yaml", dataset, batch={"policy": "pack", "size": 1, "length": 16},
                              pad={"side": "left"}, tensors="hf_packed_lm")
    ran = subprocess.run([harness.DAEMON, "--check", "--config", config], capture_output=True, text=True,
                         env=harness.environment(), check=False)
    assert ran.returncode == 78
    assert "pad.side: left does not go with it" in ran.stderr


@pytest.mark.parametrize("holes, reason", [([3], "index 3 is outside the sequence, which has 3 tokens"),
                                           ([-1], "index -1 is outside the sequence")])
def test_indices_of_packed_sequences_count_in_the_sequence(tmp_path, holes, reason):
    rows = [{"tokens": [1, 2, 7], "holes": holes}, {"tokens": [1, 2, 7, 4], "holes": [3]}]
    dataset = harness.pack(tmp_path / "d", rows, "--column", "holes:ragged:i32")
    config = harness.one_feed(tmp_path / "c.yaml", dataset, batch=PACK,
                              tensors={"s": {"make": "segments"}, "m": {"mask": {"indices": "holes"}}})
    with harness.Daemon(config) as daemon:
        ran = daemon.tool("cat", "train", check=False)
    assert ran.returncode == 1
    assert reason in ran.stderr
