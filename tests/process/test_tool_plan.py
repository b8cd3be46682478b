# SPDX-License-Identifier: MIT
"""`seqfeed plan`: what it says beforehand is what the references say that an epoch holds."""
import collections
import json
import re
import xml.etree.ElementTree

import expected
import harness
import numpy
import pytest
from expected import plan_reference

CASES = [
    {"size": 7},
    {"size": 7, "strands": 4, "window": 1},
    {"size": 7, "strands": 4, "window": 1, "tail": "drop", "last": "drop"},
    {"size": 5, "strands": 3, "last": "pad", "shuffle": False},
    {"size": 6, "strands": 2, "length_max": 50, "overflow": "split", "empty": "drop"},
    {"size": 6, "length_max": 50, "overflow": "drop", "multiple_of": 16},
    {"size": 6, "length_max": 50, "overflow": "truncate_left", "to": 64, "multiple_of": 3},
    {"size": 300, "last": "pad"},
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    rows = harness.random_rows(250, seed=5, longest=150)
    return harness.pack(folder / "dataset", rows, "--block", "4KiB"), rows


def configure(path, dataset, case):
    length = {"empty": case.get("empty", "keep"), "overflow": case.get("overflow", "error")}
    if "length_max" in case:
        length["max"] = case["length_max"]
    return harness.one_feed(
        path, dataset,
        order={key: case[key] for key in ("shuffle", "strands", "window") if key in case},
        batch={key: case[key] for key in ("size", "last", "tail") if key in case},
        pad={key: case[key] for key in ("to", "multiple_of") if key in case}, length=length)


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_the_plan_is_what_the_epoch_holds(dataset, tmp_path, case, world):
    directory, rows = dataset
    config = configure(tmp_path / "c.yaml", directory, case)
    found = json.loads(harness.tool("plan", "--json", config, "--world", world).stdout)["feeds"]["train"]
    reference = expected.Expected(directory, **case)
    batches = [batch["tensors"] for ranks in reference.epoch() for batch in ranks]
    tokens = sum(int(batch["lengths"].sum()) for batch in batches)
    slots = sum(batch["tokens"].size for batch in batches)

    assert found["sequences"] == len(rows)
    assert found["tokens"] == sum(len(row["tokens"]) for row in rows)
    assert found["batches_per_epoch"] == len(batches)
    assert found["batches_per_rank"] == len(reference.rank(0, world))
    assert found["epoch"] == {"rows": sum(len(batch["lengths"]) for batch in batches),
                              "tokens": tokens, "slots": slots}
    assert found["padding_share"] == pytest.approx(1 - tokens / slots, abs=1e-6)
    largest = {tensor["name"]: tensor for tensor in found["tensors"]}
    assert list(largest) == list(batches[0])
    for name, tensor in largest.items():
        assert all(list(batch[name].shape) <= tensor["shape"] for batch in batches), name
        assert tensor["dtype"] == str(batches[0][name].dtype)


@pytest.mark.parametrize("batch", [
    {"policy": "bucket", "size": 8}, {"policy": "bucket", "size": 8, "boundaries": [20], "shape": "bucket"},
    {"policy": "tokens", "tokens": 4000, "multiple_of": 4, "last": "pad"},
    {"policy": "pack", "size": 2, "length": 300, "pool": 16}], ids=lambda batch: batch["policy"])
def test_the_plan_of_other_policies_is_what_the_epoch_holds(dataset, tmp_path, batch):
    directory, rows = dataset
    config = harness.one_feed(tmp_path / "c.yaml", directory, order={"strands": 2, "window": 3},
                              batch=batch, length={"max": 200, "overflow": "split"})
    found = json.loads(harness.tool("plan", "--json", config).stdout)["feeds"]["train"]
    reference = expected.Expected(directory, strands=2, window=3, length_max=200, overflow="split",
                                  batch=batch)
    batches = [batch["tensors"]["tokens"].shape for ranks in reference.epoch() for batch in ranks]
    assert found["batches_per_epoch"] == len(batches)
    assert found["epoch"]["slots"] == sum(rows * length for rows, length in batches)
    shapes = collections.Counter(batches)
    assert {(one["rows"], one["length"]): one["batches"] for one in found["shapes"]} == shapes
    assert 0.2 < found["shuffle"]["travel"] < 0.45
    assert "mixing" in harness.tool("plan", config).stdout


def decoded(reference, world, nodes):
    """How many blocks all nodes decode, at first and once more for batches that come again: node k has
    the ranks from k * world / nodes on, and needs what its rows need of each window."""
    epoch = plan_reference.Epoch(reference.spec, reference.lengths, 0)
    first, again = set(), set()
    for places, _ in plan_reference.rounds(reference.spec, len(epoch.batches), 0, 0, world):
        for rank, place in enumerate(places):
            batch = epoch.batches[place.batch]
            needs = {(rank * nodes // world, piece.block) for piece in batch.pieces()}
            (again if place.repeated or batch.repeated else first).update(needs)
    return len(first), len(again), sum(len(window) for windows in epoch.windows for window in windows)


@pytest.mark.parametrize("batch", [{"size": 7}, {"policy": "bucket", "size": 4}, {"size": 7, "tail": "drop"},
                                   {"policy": "pack", "size": 2, "length": 300}])
@pytest.mark.parametrize("world,nodes,strands", [(1, 1, 1), (4, 2, 1), (4, 2, 4), (6, 3, 2), (8, 8, 2)])
def test_reads_of_all_nodes(dataset, tmp_path, batch, world, nodes, strands):
    directory, _ = dataset
    config = harness.one_feed(tmp_path / "c.yaml", directory, order={"strands": strands, "window": 2},
                              batch=batch)
    found = json.loads(harness.tool("plan", "--json", config, "--world", world, "--nodes", nodes).stdout)
    reads = found["feeds"]["train"]["reads"]
    reference = expected.Expected(directory, strands=strands, window=2, batch=batch)
    first, again, blocks = decoded(reference, world, nodes)
    assert (reads["decoded"], reads["decoded_again"], reads["blocks"]) == (first, again, blocks)
    assert reads["amplification"] == pytest.approx((first + again) / blocks, abs=1e-4)
    if strands == world:
        assert reads["decoded"] <= blocks


@pytest.mark.parametrize("batch", [{"size": 7}, {"policy": "tokens", "tokens": 1200, "multiple_of": 4},
                                   {"policy": "pack", "size": 3, "length": 160}])
@pytest.mark.parametrize("last,tail,world", [("drop", "drop", 3), ("drop", "repeat", 1), ("keep", "drop", 2)])
def test_what_last_and_tail_leave_out(dataset, tmp_path, batch, last, tail, world):
    directory, rows = dataset
    batch = {**batch, "last": last, "tail": tail}
    config = harness.one_feed(tmp_path / "c.yaml", directory, order={"strands": 2, "window": 2}, batch=batch)
    found = json.loads(harness.tool("plan", "--json", config, "--world", world).stdout)["feeds"]["train"]
    reference = expected.Expected(directory, strands=2, window=2, batch=batch)
    epoch = plan_reference.Epoch(reference.spec, reference.lengths, 0)
    in_strands = sum(piece.length for batches in epoch.strand_batches for units in batches
                     for unit in units for piece in unit)
    delivered = sum(int(one["tensors"]["lengths"].sum()) for ranks in reference.epoch(world)
                    for one in ranks if not one["repeated"])
    tokens = sum(len(row["tokens"]) for row in rows)
    assert found["left_out"]["tokens_by_last"] == tokens - in_strands
    assert found["left_out"]["tokens_by_tail"] == in_strands - delivered


def test_yardsticks_are_those_of_the_lengths(dataset, tmp_path):
    """Random batches by drawing them; best fit decreasing by doing it, a piece at a time."""
    directory, rows = dataset
    config = harness.one_feed(tmp_path / "c.yaml", directory, batch={"policy": "pack", "size": 1, "length": 200})
    found = json.loads(harness.tool("plan", "--json", config).stdout)["feeds"]["train"]["yardsticks"]
    lengths = sorted((len(row["tokens"]) for row in rows), reverse=True)
    free = []
    for length in lengths:
        places = max(length, 1)
        fits = [room for room in free if room >= places]
        free.remove(min(fits)) if fits else None
        free.append((min(fits) if fits else 200) - places)
    assert found["best_fit_decreasing"] == pytest.approx(1 - sum(lengths) / (200 * len(free)), abs=1e-6)
    draw = numpy.random.default_rng(1).choice(lengths, (20000, 64))
    assert found["random_batches_of_64"] == pytest.approx(1 - draw.mean() / draw.max(1).mean(), abs=0.003)


def test_policies_are_compared_and_drawn(dataset, tmp_path):
    directory, _ = dataset
    config = harness.write_config(tmp_path / "c.yaml", {
        "train": {"dataset": directory, "batch": {"policy": "bucket", "size": 8}},
        "eval": {"dataset": directory, "order": {"shuffle": False}}})
    picture = tmp_path / "p.svg"
    found = json.loads(harness.tool("plan", "--json", config, "--plot", picture).stdout)["feeds"]
    own = [one for one in found["train"]["policies"] if one["own"]]
    assert len(own) == 1 and own[0]["padding_share"] == found["train"]["padding_share"]
    # what is compared is what a feed with these settings has
    fixed = harness.one_feed(tmp_path / "f.yaml", directory, batch={"size": 64})
    alone = json.loads(harness.tool("plan", "--json", fixed).stdout)["feeds"]["train"]
    assert found["train"]["policies"][0]["padding_share"] == alone["padding_share"]
    assert "(this feed)" in harness.tool("plan", config, "--compare").stdout
    root = xml.etree.ElementTree.parse(picture).getroot()
    words = " ".join(text.text for text in root.iter("{http://www.w3.org/2000/svg}text"))
    for word in ("train:", "eval:", "padding", "a full permutation", "best fit of all"):
        assert word in words
    ran = harness.tool("plan", config, "--plot", tmp_path / "absent" / "p.svg", check=False)
    assert ran.returncode == 1 and "cannot be written" in ran.stderr


def test_a_window_that_holds_too_little_is_a_warning(dataset, tmp_path):
    directory, _ = dataset
    for window, warned in ((1, True), (1000, False)):
        config = harness.one_feed(tmp_path / "c.yaml", directory, order={"window": window}, batch={"size": 1})
        found = json.loads(harness.tool("plan", "--json", config).stdout)["feeds"]["train"]
        assert ("holds too little" in "".join(found["warnings"])) == warned
        assert ("warning" in harness.tool("plan", config).stdout) == warned


def test_losses_are_counted(dataset, tmp_path):
    directory, rows = dataset
    lengths = [len(row["tokens"]) for row in rows]
    for overflow in ("split", "drop", "truncate_right"):
        case = {"size": 8, "length_max": 50, "overflow": overflow, "empty": "drop"}
        config = configure(tmp_path / f"{overflow}.yaml", directory, case)
        losses = json.loads(harness.tool("plan", "--json", config).stdout)["feeds"]["train"]["losses"]
        longer = [length for length in lengths if length > 50]
        empty = lengths.count(0)
        dropped = overflow == "drop"
        truncated = overflow == "truncate_right"
        assert losses == {
            "sequences_dropped": empty + (len(longer) if dropped else 0),
            "tokens_dropped": sum(longer) if dropped else 0,
            "sequences_truncated": len(longer) if truncated else 0,
            "tokens_truncated": sum(longer) - 50 * len(longer) if truncated else 0,
            "sequences_split": len(longer) if overflow == "split" else 0}


def test_the_table_names_feeds_tensors_and_memory(dataset, tmp_path):
    directory, _ = dataset
    config = harness.write_config(tmp_path / "c.yaml", {"train": {"dataset": directory},
                                                        "eval": {"dataset": directory}})
    text = harness.tool("plan", config).stdout
    for word in ("train:", "eval:", "batches", "padding", "tokens", "int64", "memory", "in all"):
        assert word in text
    assert "train:" not in harness.tool("plan", config, "--feed", "eval").stdout


def test_what_a_gpu_would_take_is_told(dataset, tmp_path):
    """Whatever this machine has: room for a batch's tokens and, where rows are packed, for as many sequences."""
    directory, _ = dataset

    def inputs(**keys):
        config = harness.one_feed(tmp_path / "c.yaml", directory, ring={"slots": 3}, **keys)
        said = "on a GPU" in harness.tool("plan", config).stdout
        memory = json.loads(harness.tool("plan", "--json", config).stdout)["feeds"]["train"]["memory"]
        assert said == (memory["device_inputs"] > 0)
        assert memory["total"] == memory["rings"] + memory["windows"] + memory["buffers"]
        return memory["device_inputs"] / 3

    assert inputs(backend="cpu") == 0
    padded = inputs(batch={"size": 64})
    packed = inputs(batch={"policy": "pack", "size": 64, "length": 150})
    assert padded >= 64 * 150 * 2 and packed >= 64 * 150 * (2 + 4)
    assert packed - padded <= 64 * 150 * (4 + 8) + 8192


def test_wrong_words_and_wrong_files_have_their_exit_codes(dataset, tmp_path):
    directory, _ = dataset
    config = harness.one_feed(tmp_path / "c.yaml", directory)
    assert harness.tool("plan", check=False).returncode == 2
    assert harness.tool("plan", config, "--world", "0", check=False).returncode == 2
    assert harness.tool("plan", config, "--nodes", "0", check=False).returncode == 2
    assert harness.tool("plan", config, "--nodes", "2", "--world", "3", check=False).returncode == 2
    assert harness.tool("plan", config, "--no-such-option", check=False).returncode == 2
    ran = harness.tool("plan", config, "--feed", "none", check=False)
    assert ran.returncode == 1 and "no feed 'none'" in ran.stderr and "train" in ran.stderr
    ran = harness.tool("plan", config, "--set", "feeds.train.batch.size=0", check=False)
    assert ran.returncode == 1 and "--set feeds.train.batch.size: 0 is out of range" in ran.stderr
    ran = harness.tool("plan", tmp_path / "absent.yaml", check=False)
    assert ran.returncode == 1 and "absent.yaml: cannot be opened" in ran.stderr
    assert ran.stdout == ""


def test_figures_and_words_are_for_people(tmp_path):
    """Times have a unit that suits them, one is no plural, and positions of tokens are places everywhere."""
    directory = harness.pack(tmp_path / "dataset", [{"tokens": [7]}])
    config = harness.one_feed(tmp_path / "c.yaml", directory)
    said = harness.tool("plan", config).stdout
    assert re.search(r"^  seek +([\d.]+ (us|ms|s)|less than 1 us) to any batch", said, re.MULTILINE), said
    assert "of the places in epoch 0" in said and "  tokens     1, up to 1 a sequence" in said
    assert "  tokens     1 (u16)\n" in harness.tool("inspect", directory).stdout
    with harness.Daemon(config) as daemon:
        assert ": 1 row, 1 token in 1 place, 0.0 % padding" in daemon.tool("cat", "train").stdout
        assert re.match(r"1 batch, 1 token in (less than 1|[\d.]+) (us|ms|s): ", daemon.tool("bench", "train").stdout)
        assert re.search(r"^\d+ batches with \d+ places, 0.00 % of them padding", daemon.tool("status").stdout,
                         re.MULTILINE)


def test_a_dataset_in_place_of_a_configuration_is_told_how_to_get_one(tmp_path):
    directory = harness.pack(tmp_path / "dataset", [{"tokens": [7]}])
    ran = harness.tool("plan", directory, check=False)
    assert ran.returncode == 1 and "is a directory" in ran.stderr
    command = ran.stderr.split("'")[1].split()
    assert command[:2] == ["seqfeed", "inspect"]
    shown = harness.tool(*command[1:]).stdout
    (tmp_path / "c.yaml").write_text(shown[shown.index("feeds:"):])
    harness.tool("plan", tmp_path / "c.yaml")
