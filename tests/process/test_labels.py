# SPDX-License-Identifier: MIT
"""Labels that come with the data: what stands at padding, and what presets do with such a column."""
import json
import re
import subprocess

import harness
import pytest

SFT = [{"tokens": [7, 5, 6], "labels": [-100, 5, 6]}, {"tokens": [1], "labels": [1]}]


def first_batch(tmp_path, rows, **feed):
    dataset = harness.pack(tmp_path / "dataset", rows)
    config = harness.one_feed(tmp_path / "c.yaml", dataset, order={"shuffle": False}, **feed)
    with harness.Daemon(config) as daemon:
        return daemon.cat()[0]["tensors"]


def test_padding_of_labels_is_left_out_of_the_loss(tmp_path):
    found = first_batch(tmp_path, SFT, batch={"size": 3, "last": "pad"},
                        tensors={"labels": {"from": "labels"}, "ours": {"from": "labels", "pad": 0}})
    assert found["labels"].tolist() == [[-100, 5, 6], [1, -100, -100], [-100, -100, -100]]
    assert found["ours"].tolist() == [[-100, 5, 6], [1, 0, 0], [0, 0, 0]]


def test_rows_that_do_not_exist_have_no_class(tmp_path):
    found = first_batch(tmp_path, harness.CANONICAL, batch={"size": 5, "last": "pad"},
                        tensors={"labels": {"from": "label"}})
    assert found["labels"].tolist() == [0, 1, 0, -100, -100]


def warnings_of(tmp_path, rows, **feed):
    """What `--check` and `seqfeed plan` warn of, which is the same; and the daemon, when it starts."""
    dataset = harness.pack(tmp_path / "dataset", rows)
    config = harness.one_feed(tmp_path / "c.yaml", dataset, **feed)
    ran = subprocess.run([harness.DAEMON, "--config", config, "--check"], check=False, text=True,
                         capture_output=True, env=harness.environment())
    assert ran.returncode == 0, ran.stderr
    said = re.findall(r"^seqfeedd: warning: (.*)$", ran.stderr, re.M)
    assert ran.stdout == f"{config}: 1 feed, {'with warnings' if said else 'fine'}\n"
    assert json.loads(harness.tool("plan", "--json", config).stdout)["feeds"]["train"]["warnings"] == said
    table = harness.tool("plan", config).stdout
    assert re.findall(r"^  warning: (.*)$", table, re.M) == said
    with harness.Daemon(config) as daemon:
        assert re.findall(r"^seqfeedd: warning: (.*)$", daemon.log, re.M) == said
    return said


PACK = {"policy": "pack", "size": 1, "length": 8}


@pytest.mark.parametrize("preset, batch", [
    ("hf_causal_lm", {"size": 2}), ("megatron", {"size": 2}), ("hf_packed_lm", PACK), ("megatron", PACK)])
def test_a_preset_that_leaves_the_labels_out_says_so(tmp_path, preset, batch):
    said = warnings_of(tmp_path, SFT, tensors=preset, batch=batch)
    assert len(said) == 1 and "c.yaml:" in said[0], said
    assert f"feeds.train.tensors: the dataset has a per-token column 'labels', which {preset} does not use" in said[0]
    assert "write tensors as a mapping, with labels: {from: labels}" in said[0]


@pytest.mark.parametrize("tensors, rows", [
    ("hf_causal_lm", harness.CANONICAL),
    ("hf_causal_lm", [{"tokens": [1, 2], "labels": 3}]),  # a class, and no business of this preset
    ("seed", SFT), ("hf_classification", SFT),
    ({"input_ids": {"from": "tokens"}, "labels": {"make": "labels"}}, SFT)])
def test_nothing_to_say(tmp_path, tensors, rows):
    assert warnings_of(tmp_path, rows, tensors=tensors) == []


def test_ragged_labels_are_said_to_be_of_no_use(tmp_path):
    rows = [{"tokens": [1, 2, 3], "labels": [1]}, {"tokens": [1, 2], "labels": [1, 2, 3]}]
    said = warnings_of(tmp_path, rows)
    assert len(said) == 1 and "has a ragged column 'labels', which seed does not use" in said[0], said


@pytest.mark.parametrize("preset", ["seed", "hf_classification"])
def test_a_column_called_labels_is_taken_for_label(tmp_path, preset):
    rows = [{"tokens": row["tokens"], "labels": row["label"]} for row in harness.CANONICAL]
    assert first_batch(tmp_path, rows, tensors=preset)["labels"].tolist() == [0, 1, 0]


def test_label_goes_before_labels(tmp_path):
    rows = [{**row, "labels": 7} for row in harness.CANONICAL]
    assert first_batch(tmp_path, rows)["labels"].tolist() == [0, 1, 0]


def test_labels_for_each_token_are_taken_too(tmp_path):
    assert first_batch(tmp_path, SFT)["labels"].tolist() == [[-100, 5, 6], [1, -100, -100]]


def test_labels_for_each_token_of_packed_rows(tmp_path):
    found = first_batch(tmp_path, SFT, batch={**PACK, "length": 5})
    assert found["labels"].tolist() == [[-100, 5, 6, 1, -100]]
