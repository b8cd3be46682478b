# SPDX-License-Identifier: MIT
"""The example that everything began with, from `pack` to `cat --json`."""
import json

import harness
import pytest


@pytest.fixture
def dataset(tmp_path):
    return harness.pack(tmp_path / "dataset", harness.CANONICAL)


def test_the_canonical_batch(dataset, tmp_path):
    config = harness.one_feed(tmp_path / "c.yaml", dataset, order={"shuffle": False})
    with harness.Daemon(config) as daemon:
        lines = daemon.tool("cat", "train", "--json").stdout.splitlines()
    assert len(lines) == 1
    batch = json.loads(lines[0])
    assert (batch["epoch"], batch["step"]) == (0, 0)
    assert list(batch["tensors"]) == ["tokens", "mask", "labels", "lengths"]
    assert batch["tensors"]["tokens"] == {"dtype": "int64", "shape": [3, 3],
                                          "data": [[1, 2, 0], [3, 4, 5], [6, 0, 0]]}
    assert batch["tensors"]["mask"] == {
        "dtype": "bool", "shape": [3, 3],
        "data": [[True, True, False], [True, True, True], [True, False, False]]}
    assert batch["tensors"]["labels"] == {"dtype": "int64", "shape": [3], "data": [0, 1, 0]}
    assert batch["tensors"]["lengths"] == {"dtype": "int64", "shape": [3], "data": [2, 3, 1]}
    assert batch["cursor"].startswith("sf1;") and batch["cursor"].count("epoch=1;index=0") == 1


def test_the_same_through_run(dataset, tmp_path):
    config = harness.one_feed(tmp_path / "c.yaml", dataset, order={"shuffle": False})
    ran = harness.tool("run", config, "--", harness.TOOL, "cat", "train", "--json")
    assert json.loads(ran.stdout)["tensors"]["tokens"]["data"] == [[1, 2, 0], [3, 4, 5], [6, 0, 0]]


@pytest.mark.parametrize("code", [0, 1, 7])
def test_run_returns_the_exit_code_of_its_command(dataset, tmp_path, code):
    config = harness.one_feed(tmp_path / "c.yaml", dataset)
    ran = harness.tool("run", config, "--", "/bin/sh", "-c", f"exit {code}", check=False)
    assert ran.returncode == code


def test_the_batch_as_a_table(dataset, tmp_path):
    config = harness.one_feed(tmp_path / "c.yaml", dataset, order={"shuffle": False})
    with harness.Daemon(config) as daemon:
        text = daemon.tool("cat", "train").stdout
    for word in ("tokens", "mask", "labels", "lengths", "int64", "bool"):
        assert word in text


def test_tensors_chosen_one_by_one(dataset, tmp_path):
    config = harness.one_feed(
        tmp_path / "c.yaml", dataset, order={"shuffle": False}, layout="time_first",
        pad={"side": "left", "value": 9, "to": 4},
        tensors={"input_ids": {"from": "tokens", "dtype": "int32"},
                 "attention_mask": {"mask": "lengths", "dtype": "float32"},
                 "keep": {"mask": "lengths", "dtype": "uint8"},
                 "n": {"from": "lengths", "dtype": "int32"},
                 "y": {"from": "label"}})
    with harness.Daemon(config) as daemon:
        batch = daemon.cat()[0]["tensors"]
    tokens = [[9, 9, 1, 2], [9, 3, 4, 5], [9, 9, 9, 6]]
    mask = [[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1]]
    assert list(batch) == ["input_ids", "attention_mask", "keep", "n", "y"]
    assert batch["input_ids"].T.tolist() == tokens and batch["input_ids"].dtype == "int32"
    assert batch["attention_mask"].T.tolist() == mask and batch["attention_mask"].dtype == "float32"
    assert batch["keep"].T.tolist() == mask and batch["keep"].dtype == "uint8"
    assert batch["n"].tolist() == [2, 3, 1] and batch["y"].tolist() == [0, 1, 0]
