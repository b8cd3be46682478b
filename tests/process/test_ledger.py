# SPDX-License-Identifier: MIT
"""What batches and `status` say about tokens, beside counts of the delivered tensors by numpy and of
the dataset by the Python references."""
import itertools
import json
import time

import harness
import numpy
import pytest
from expected import Expected, plan_reference

BATCHES = {
    "fixed": {"size": 8},
    "bucket": {"policy": "bucket", "size": 4},
    "tokens": {"policy": "tokens", "tokens": 160, "multiple_of": 2},
    "pack": {"policy": "pack", "size": 3, "length": 48},
}
LONGEST = {"truncate_right": 24, "truncate_left": 24, "split": 24, "drop": 24}
SUMS = ("tokens_in", "trained", "ignored", "truncated", "dropped", "repeated", "padded", "slots", "items",
        "squares", "rows", "sequences")


@pytest.fixture(scope="module")
def rows():
    """Some empty, some longer than the tests allow; spans that overlap, are empty or come backwards."""
    draw = numpy.random.default_rng(5)
    found = harness.random_rows(300, seed=5, longest=40)
    for row in found:
        length = len(row["tokens"])
        row["spans"] = [sorted(draw.integers(0, length + 1, 2).tolist()) for _ in range(draw.integers(0, 4))]
    return found


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, rows):
    return harness.pack(tmp_path_factory.mktemp("ledger") / "dataset", rows, "--block", "4KiB",
                        "--column", "spans:ragged:u32:2")


def run(tmp_path, dataset, world, **feed):
    """All batches of an epoch, of one stream a rank, and what `status` says while they are there."""
    config = harness.one_feed(tmp_path / "c.yaml", dataset, **feed)
    with harness.Daemon(config) as daemon:
        batches = [daemon.cat(rank=rank, world=world) for rank in range(world)]
        human = daemon.tool("status").stdout
        return batches, daemon.status(), human


def total(batches, key):
    return sum(batch["ledger"][key] for batch in batches)


def check_sums(batch):
    ledger = batch["ledger"]
    assert ledger["tokens_in"] == (ledger["trained"] + ledger["ignored"] + ledger["truncated"]
                                   + ledger["dropped"])
    assert ledger["slots"] == ledger["trained"] + ledger["ignored"] + ledger["padded"]
    repeated = ledger["tokens_in"] - ledger["dropped"] if batch.get("repeated") else 0
    assert ledger["repeated"] == repeated


@pytest.mark.parametrize("overflow", LONGEST)
@pytest.mark.parametrize("policy", BATCHES)
@pytest.mark.parametrize("last,tail,world", [("keep", "repeat", 2), ("drop", "drop", 3), ("drop", "repeat", 1),
                                             ("pad", "drop", 2)])
def test_every_token_has_one_fate(tmp_path, dataset, policy, overflow, last, tail, world):
    batch = {**BATCHES[policy], "last": last, "tail": tail}
    order = {"seed": 3, "strands": 2, "window": 3}
    found, status, _ = run(tmp_path, dataset, world, order=order, batch=batch,
                           length={"max": LONGEST[overflow], "overflow": overflow, "empty": "drop"})
    expected = Expected(dataset, length_max=LONGEST[overflow], overflow=overflow, empty="drop",
                        strands=2, window=3, seed=3, batch=batch)
    everything = [each for rank in found for each in rank]
    for each in everything:
        check_sums(each)
    # conservation, against the dataset's own lengths
    tokens = sum(map(sum, expected.lengths))
    assert total(everything, "tokens_in") - total(everything, "repeated") == tokens
    # what truncation has taken, sequence by sequence
    rounds = expected.epoch(world)
    plan = plan_reference.stream(expected.spec, expected.lengths, 0, 0, world)
    for number in range(len(rounds)):
        step = next(plan)
        for rank in range(world):
            cut = 0
            if overflow.startswith("truncate"):
                cut = sum(expected.lengths[piece.block][piece.sequence] - piece.length
                          for piece in step.batches[rank].pieces())
            ledger = found[rank][number]["ledger"]
            lengths = [piece.length for piece in step.batches[rank].pieces()]
            assert ledger["truncated"] == cut
            assert ledger["sequences"] == len(lengths)
            assert ledger["squares"] == sum(length * length for length in lengths)
            assert ledger["rows"] == step.batches[rank].rows
            assert ledger["trained"] + ledger["ignored"] == sum(lengths)
    # and what is dropped is told by rank 0 alone, at the end
    assert all(each["ledger"]["dropped"] == 0 for each in everything if each is not found[0][-1])


@pytest.mark.parametrize("policy", BATCHES)
def test_status_totals_what_batches_say(tmp_path, dataset, policy):
    """Also of streams that have ended: here all have."""
    batch = {**BATCHES[policy], "last": "drop"}
    found, status, human = run(tmp_path, dataset, 2, order={"strands": 2, "window": 3}, batch=batch,
                               length={"max": 24, "overflow": "truncate_left", "empty": "drop"},
                               ring={"slots": 2})
    # a ring holds batches that nobody has taken: compare what a trainer of our own takes
    ledger = status["ledger"]
    assert ledger["tokens_in"] == (ledger["trained"] + ledger["ignored"] + ledger["truncated"]
                                   + ledger["dropped"])
    assert ledger["slots"] == ledger["trained"] + ledger["ignored"] + ledger["padded"]
    everything = [each for rank in found for each in rank]
    for key in SUMS:
        assert ledger[key] >= total(everything, key), key
    fates = " + ".join(f"{ledger[key]} {key}" for key in ("trained", "ignored", "truncated", "dropped"))
    assert f"tokens in {ledger['tokens_in']} = {fates}" in human


def test_status_of_a_running_stream(tmp_path, dataset):
    """A trainer that does not go on: what is published is exactly the first batches of the epoch."""
    config = harness.one_feed(tmp_path / "c.yaml", dataset, batch={"policy": "bucket", "size": 4},
                              length={"max": 24, "overflow": "truncate_right"}, ring={"slots": 4})
    with harness.Daemon(config) as daemon:
        want = daemon.cat(n=400)
        before = daemon.status()["ledger"]
        stuck = daemon.tool_start("cat", "train", "--json", "-n", "400")  # nobody reads its output
        try:
            harness.wait_until(lambda: daemon.status()["streams"], "no stream")
            harness.wait_until(lambda: still(daemon), "still going on")
            stream, status = daemon.status()["streams"][0], daemon.status()
        finally:
            stuck.kill()
            stuck.communicate()
        ledger = stream["ledger"]
        assert 4 <= ledger["batches"] < len(want)
        for key in SUMS:
            assert ledger[key] == total(want[:ledger["batches"]], key), key
            assert status["ledger"][key] - before[key] == ledger[key], key


def still(daemon):
    """Two looks that tell the same number of batches."""
    first = daemon.status()["streams"][0]["batches"]
    time.sleep(0.05)
    return daemon.status()["streams"][0]["batches"] == first


def check_labels(batch, counts):
    """`counts` is true where a label counts: [rows, length]."""
    ledger = batch["ledger"]
    assert ledger["items"] == counts.sum()
    assert ledger["items_shifted"] == counts[:, 1:].sum()
    assert ledger["trained"] == ledger["items"]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("spans", [None, "spans"])
@pytest.mark.parametrize("overflow", ["truncate_left", "split"])
@pytest.mark.parametrize("shift", ["none", "next"])
def test_labels_are_counted_as_they_stand(tmp_path, dataset, side, spans, overflow, shift):
    labels = {"make": "labels", "shift": shift, "dtype": "int64"}
    if spans:
        labels["spans"] = spans
    found, _, _ = run(tmp_path, dataset, 1, batch={"policy": "bucket", "size": 8}, pad={"side": side},
                      length={"max": 24, "overflow": overflow}, values="parity",
                      tensors={"tokens": {"from": "tokens"}, "labels": labels})
    assert sum(batch["ledger"]["items"] for batch in found[0]) > 500
    for batch in found[0]:
        check_sums(batch)
        check_labels(batch, batch["tensors"]["labels"] != -100)


def test_a_loss_mask_goes_before_labels(tmp_path, dataset):
    found, _, _ = run(tmp_path, dataset, 1, batch={"size": 8}, tensors="megatron")
    for batch in found[0]:
        check_labels(batch, batch["tensors"]["loss_mask"] > 0)


def test_one_label_a_sequence(tmp_path, dataset):
    found, _, _ = run(tmp_path, dataset, 1, batch={"size": 8, "last": "pad"})
    for batch in found[0]:
        ledger = batch["ledger"]
        assert ledger["items"] == (batch["tensors"]["labels"] != -100).sum() == ledger["sequences"]
        assert ledger["items_shifted"] == ledger["items"]
        assert ledger["ignored"] == 0


def test_without_labels_nothing_is_ignored(tmp_path, dataset):
    found, _, _ = run(tmp_path, dataset, 1, batch={"size": 8}, tensors={"tokens": {"from": "tokens"}})
    for batch in found[0]:
        assert batch["ledger"]["items"] == batch["ledger"]["ignored"] == 0


def test_an_epoch_that_cannot_be_is_refused_behind_a_whole_one(tmp_path):
    """Most sequences are dropped, so some order of the blocks leaves a strand without a batch: every
    batch of the epoch before arrives, then the stream ends with the reason."""
    rows = [{"tokens": [1] * (3 if number % 120 == 0 else 30), "label": 0} for number in range(600)]
    dataset = harness.pack(tmp_path / "d", rows, "--block", "4KiB", "--token-type", "u32")
    expected = fails_in_epoch_1(dataset)
    config = harness.one_feed(tmp_path / "c.yaml", dataset, order={"seed": expected.spec.seed, "strands": 2},
                              batch={"size": 2}, length={"max": 5, "overflow": "drop"})
    said = json.loads(harness.tool("plan", "--json", config).stdout)["feeds"]["train"]["warnings"]
    assert any("ends behind epoch 0" in warning for warning in said), said
    with harness.Daemon(config) as daemon:
        for world in (1, 2):
            ran = daemon.tool("cat", "train", "--json", "-n", 100, "--world", world, check=False,
                              timeout=20)
            got = harness.parse_batches(ran.stdout)
            count = len(plan_reference.Epoch(expected.spec, expected.lengths, 0).batches)
            rounds = itertools.islice(expected.stream(world), -(-count // world))
            harness.same_batches(got, [found[0] for found in rounds])
            assert ran.returncode == 1
            assert "has no batch in epoch 1" in ran.stderr and "lower order.strands" in ran.stderr
        again = daemon.tool("cat", "train", "--resume", got[-1]["cursor"], check=False)
        assert again.returncode == 1 and "has no batch in epoch 1" in again.stderr


def fails_in_epoch_1(dataset):
    """What a feed must deliver, with a seed whose epoch 0 has batches in both strands and epoch 1 not."""
    for seed in range(1000):
        expected = Expected(dataset, size=2, seed=seed, strands=2, length_max=5, overflow="drop")
        if usable(expected, 0) and not usable(expected, 1):
            return expected
    raise AssertionError("no such seed")


def usable(expected, epoch):
    try:
        plan_reference.Epoch(expected.spec, expected.lengths, epoch)
    except plan_reference.NoBatch:
        return False
    return True


@pytest.mark.parametrize("policy", BATCHES)
@pytest.mark.parametrize("until", ["all", 300])
def test_several_datasets(tmp_path, dataset, policy, until):
    """An epoch's tokens are those of its blocks, of which some come twice."""
    short = harness.pack(tmp_path / "short", harness.random_rows(60, seed=8, longest=40), "--block", "4KiB",
                         "--token-type", "u32")
    long = harness.pack(tmp_path / "long", harness.random_rows(250, seed=9, longest=60), "--block", "4KiB",
                        "--token-type", "u32")
    batch = {**BATCHES[policy], "last": "drop", "tail": "drop"}
    config = harness.write_config(tmp_path / "c.yaml", {"train": {
        "datasets": {"a": {"path": str(short), "weight": 2.0}, "b": {"path": str(long), "weight": 1.0}},
        "mix": {"unit": "sequences", "until": until}, "order": {"strands": 2, "window": 2}, "batch": batch,
        "length": {"max": 24, "overflow": "truncate_right", "empty": "drop"}}})
    expected = Expected({"a": (short, "2"), "b": (long, "1")}, strands=2, window=2, length_max=24,
                        overflow="truncate_right", empty="drop", batch=batch, mix=("sequences", until))
    epoch = plan_reference.Epoch(expected.spec, expected.lengths, 0)
    tokens = sum(sum(expected.lengths[block]) for windows in epoch.windows for window in windows
                 for block in window)
    with harness.Daemon(config) as daemon:
        found = [daemon.cat(rank=rank, world=2) for rank in range(2)]
    everything = [each for rank in found for each in rank]
    for each in everything:
        check_sums(each)
    assert total(everything, "tokens_in") - total(everything, "repeated") == tokens


@pytest.mark.parametrize("preset,size", [("megatron", 3), ("hf_packed_lm", 1)])
@pytest.mark.parametrize("overflow", ["truncate_left", "split"])
def test_labels_of_packed_rows(tmp_path, dataset, preset, size, overflow):
    found, _, _ = run(tmp_path, dataset, 1, batch={"policy": "pack", "size": size, "length": 48},
                      length={"max": 40, "overflow": overflow}, tensors=preset)
    for batch in found[0]:
        check_sums(batch)
        tensors = batch["tensors"]
        counts = tensors["loss_mask"] > 0 if preset == "megatron" else tensors["labels"] != -100
        check_labels(batch, counts.reshape(-1, 48))
    assert total(found[0], "items") > 4000


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("shift", ["none", "next"])
@pytest.mark.parametrize("spans", [None, "spans"])
def test_labels_made_for_packed_rows(tmp_path, dataset, side, shift, spans):
    labels = {"make": "labels", "shift": shift, "dtype": "int64"}
    if spans:
        labels["spans"] = spans
    found, _, _ = run(tmp_path, dataset, 1, batch={"policy": "pack", "size": 2, "length": 48}, values="parity",
                      pad={"side": side},
                      tensors={"tokens": {"from": "tokens"}, "segments": {"make": "segments"}, "labels": labels})
    for batch in found[0]:
        check_sums(batch)
        check_labels(batch, batch["tensors"]["labels"] != -100)
