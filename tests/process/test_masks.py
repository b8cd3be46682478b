# SPDX-License-Identifier: MIT
"""Masks, labels and what else follows from rules, through a real daemon: bit by bit what PyTorch's
own expressions make (tests/golden/make_masks.py), and what is refused with which reason."""
import importlib.util
import json
import pathlib
import subprocess
import sys

import harness
import numpy
import pytest

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"
CASES = json.loads((GOLDEN / "masks.json").read_text())
BITS = {"float16": numpy.int16, "float32": numpy.int32}
SEQUENCES = [{"tokens": [1, 2, 7], "holes": [0], "spans": [1, 3]},
             {"tokens": [3, 4, 5, 2], "holes": [1, 2], "spans": [0, 1, 3, 4]}]


def bits_of(tensor, layout):
    if tensor["dtype"] == "bfloat16":  # numpy has none: the upper half of float32
        values = harness.parse_tensor({**tensor, "dtype": "float32"})
        found = (values.view(numpy.uint32) >> 16).astype(numpy.uint16).view(numpy.int16)
    else:
        values = harness.parse_tensor(tensor)
        found = values.view(BITS.get(tensor["dtype"], values.dtype))
    if layout == "time_first" and found.ndim == 2:
        found = found.T
    return found


@pytest.mark.parametrize("number", range(len(CASES)))
def test_every_tensor_is_what_pytorch_makes(tmp_path, number):
    case = CASES[number]
    dataset = harness.pack(tmp_path / "d", case["sequences"], "--column", "weight:token:f32",
                           "--column", "holes:ragged:i32", "--column", "spans:ragged:i32")
    config = harness.one_feed(tmp_path / "c.yaml", dataset, order={"shuffle": False}, values="parity",
                              batch={"size": len(case["sequences"])}, **case["feed"])
    with harness.Daemon(config) as daemon:
        # Three epochs: what a slot keeps from one batch to the next must be right as well.
        lines = daemon.tool("cat", "train", "--json", "-n", "11").stdout.splitlines()
    assert len(lines) == 11
    for line in (lines[0], lines[-1]):
        tensors = json.loads(line)["tensors"]
        assert list(tensors) == list(case["expected"])
        for name, expected in case["expected"].items():
            found = bits_of(tensors[name], case["feed"]["layout"])
            spec = case["feed"]["tensors"][name]
            assert tensors[name]["dtype"] == expected["dtype"], (name, spec)
            assert list(found.shape) == expected["shape"], (name, spec)
            assert found.astype(numpy.int64).flatten().tolist() == expected["bits"], (name, spec)


def test_the_golden_file_is_what_this_pytorch_makes():
    if importlib.util.find_spec("torch") is None:
        pytest.skip("no torch here")
    ran = subprocess.run([sys.executable, GOLDEN / "make_masks.py", "--check"], capture_output=True, text=True,
                         check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def one_tensor(tmp_path, spec, rows=SEQUENCES, **feed):
    dataset = harness.pack(tmp_path / "d", rows, "--column", "holes:ragged:i32", "--column", "spans:ragged:i32")
    return harness.one_feed(tmp_path / "c.yaml", dataset, order={"shuffle": False}, batch={"size": 2},
                            tensors={"x": spec}, **feed)


@pytest.mark.parametrize("feed, spec, reason", [
    ({}, {"mask": {"indices": [9]}}, "index 9 is outside every row: the longest has 4"),
    ({}, {"mask": {"indices": [3]}}, "a batch can be 3 places long; set pad.to"),
    ({}, {"mask": {"indices": [-1]}}, "index -1 is negative; 'values: parity'"),
    ({}, {"mask": {"indices": "label"}}, "has no ragged column 'label'"),
    ({}, {"mask": "causal"}, "means nothing for rows; give a mask with shape: dense"),
    ({}, {"mask": "lengths", "polarity": "additive"}, "needs their dtype"),
    ({}, {"mask": "lengths", "polarity": "additive", "dtype": "int64"}, "an additive mask cannot be int64"),
    ({}, {"mask": "lengths", "fill": "-inf"}, "is for masks with polarity: additive"),
    ({}, {"make": "labels", "spans": "tokens"}, "has no ragged column 'tokens'"),
    ({}, {"make": "labels", "shift": "megatron", "ignore": -100}, "shift: next takes any value"),
    ({}, {"make": "special_tokens_mask"}, "needs ids"),
    ({}, {"make": "segment"}, "'segment' is not known"),
    ({"pad": {"side": "left"}},
     {"mask": {"all": ["causal", "lengths"]}, "shape": "dense", "polarity": "additive", "dtype": "float32",
      "fill": "-inf"}, "padding on the left a query may see nothing at all"),
])
def test_what_is_unsafe_or_means_nothing_is_refused_at_start(tmp_path, feed, spec, reason):
    config = one_tensor(tmp_path, spec, **feed)
    ran = subprocess.run([harness.DAEMON, "--check", "--config", config], capture_output=True, text=True,
                         env=harness.environment(), check=False)
    assert ran.returncode == 78
    assert reason in ran.stderr
    assert "c.yaml:" in ran.stderr


@pytest.mark.parametrize("values, spec, rows, reason", [
    ("strict", {"mask": {"indices": "holes"}}, [{"holes": [-1]}], "index -1 is outside the row"),
    ("parity", {"mask": {"indices": "holes"}}, [{"holes": [4]}], "index 4 is outside the row, which has 4"),
    ("parity", {"mask": {"indices": "holes"}}, [{"holes": [-5]}], "index -5 is outside the row"),
    ("strict", {"make": "labels", "spans": "spans"}, [{"spans": [1, 9]}], "the span 1 .. 9 does not lie"),
    ("parity", {"make": "labels", "spans": "spans"}, [{"spans": [1, 2, 3]}], "are 3 numbers"),
])
def test_lists_that_leave_their_row_end_the_stream_with_the_reason(tmp_path, values, spec, rows, reason):
    rows = [{"tokens": [1, 2, 3, 4], "holes": [], "spans": [], **row} for row in rows]
    with harness.Daemon(one_tensor(tmp_path, spec, rows, values=values)) as daemon:
        ran = daemon.tool("cat", "train", check=False)
    assert ran.returncode == 1
    assert reason in ran.stderr
    assert ("shard-00000.zst: block 0 at offset 4096 does not suit feed train: its sequence 0, in batch 0: "
            "tensor x: ") in ran.stderr


def test_parity_takes_spans_as_far_as_they_lie_in_the_sequence(tmp_path):
    rows = [{"tokens": [1, 2, 3, 4], "holes": [], "spans": [-3, 1, 3, 90, 2, 1]}]
    config = one_tensor(tmp_path, {"make": "labels", "spans": "spans"}, rows, values="parity")
    with harness.Daemon(config) as daemon:
        assert daemon.cat()[0]["tensors"]["x"].tolist() == [[1, -100, -100, 4]]


def test_spans_follow_their_tokens_when_sequences_are_split(tmp_path):
    config = one_tensor(tmp_path, {"make": "labels", "spans": "spans"}, length={"max": 3, "overflow": "split"})
    with harness.Daemon(config) as daemon:
        found = [row for batch in daemon.cat() for row in batch["tensors"]["x"].tolist()]
    assert [[value for value in row if value != -100] for row in found] == [[2, 7], [3], [2]]


@pytest.mark.parametrize("preset, names", [
    ("hf_causal_lm", ["input_ids", "attention_mask", "labels"]),
    ("megatron", ["tokens", "labels", "loss_mask", "position_ids"])])
def test_presets(tmp_path, preset, names):
    config = one_tensor(tmp_path, {}, pad={"to": 5})
    config.write_text(config.read_text().replace("tensors:\n      x: {}", f"tensors: {preset}"))
    with harness.Daemon(config) as daemon:
        found = daemon.cat()[0]["tensors"]
    assert list(found) == names
    tokens = [[1, 2, 7, 0, 0], [3, 4, 5, 2, 0]]
    assert found[names[0]].tolist() == tokens
    if preset == "hf_causal_lm":
        assert found["attention_mask"].dtype == numpy.int64
        assert found["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]
        assert found["labels"].tolist() == [[1, 2, 7, -100, -100], [3, 4, 5, 2, -100]]
    else:
        assert found["labels"].tolist() == [[2, 7, 0, 0, 0], [4, 5, 2, 0, 0]]
        assert found["loss_mask"].tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]
        assert found["loss_mask"].dtype == numpy.float32
        # Megatron counts on over padding.
        assert found["position_ids"].tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]
