# SPDX-License-Identifier: MIT
"""What a daemon delivers is what the references say, whatever it runs on and whoever asks; and it
goes on exactly where a cursor points, after an end, a kill, or with another number of ranks."""
import itertools
import random

import expected
import harness
import pytest
import raw_client

SIZE = 8


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """About twenty blocks in several shards, with empty sequences and ones of a whole block."""
    rows = harness.random_rows(900, seed=5, longest=60, vocabulary=60000)
    rows[100]["tokens"] = list(range(3000))
    return harness.pack(tmp_path_factory.mktemp("order") / "dataset", rows, "--block", "4KiB",
                        "--shard", "24KiB")


def configure(path, dataset, top=None, seed=3, window=4, strands=1, **feed):
    return harness.one_feed(path / "c.yaml", dataset, top,
                            order={"seed": seed, "window": window, "strands": strands},
                            batch={"size": SIZE}, **feed)


def reference(dataset, seed=3, window=4, strands=1, **settings):
    return expected.Expected(dataset, size=SIZE, seed=seed, window=window, strands=strands, **settings)


def agree(found, wanted):
    """Batches of `cat` against those of the reference."""
    harness.same_batches(found, wanted)
    for one, other in zip(found, wanted):
        assert one.get("repeated", False) == other["repeated"], one["step"]


def test_the_dataset_is_worth_the_name(dataset):
    known = reference(dataset)
    assert len(known.blocks) > 15
    assert len(list(dataset.glob("shard-*"))) > 2
    assert len(known.epoch()) > 100


CONFIGURATIONS = list(itertools.product([1, 2, 4], ["io_uring", "pread"], ["0", "auto"], [1, 4]))
FEW = [(1, "pread", "0", 1), (4, "io_uring", "auto", 4)]


def every_rank_agrees(tmp_path, dataset, threads, fetch, cache, strands, worlds):
    config = configure(tmp_path, dataset, {"threads": threads, "cache": cache}, strands=strands)
    known = reference(dataset, strands=strands)
    force = "pread" if fetch == "pread" else None
    with harness.Daemon(config, SEQFEED_FETCH=force) as daemon:
        if fetch == "pread":
            assert "fetch: pread" in daemon.log
        elif "fetch: pread" in daemon.log:
            pytest.skip("io_uring is refused here: " + daemon.log.splitlines()[0])
        for world in worlds:
            for rank in range(world):
                agree(daemon.cat(rank=rank, world=world), known.rank(rank, world))


@pytest.mark.threads
@pytest.mark.parametrize("threads, fetch, cache, strands", FEW)
def test_one_epoch_equals_the_reference(tmp_path, dataset, threads, fetch, cache, strands):
    every_rank_agrees(tmp_path, dataset, threads, fetch, cache, strands, [1, 3])


@pytest.mark.slow
@pytest.mark.parametrize("threads, fetch, cache, strands", CONFIGURATIONS)
def test_one_epoch_equals_the_reference_on_every_configuration(tmp_path, dataset, threads, fetch,
                                                               cache, strands):
    every_rank_agrees(tmp_path, dataset, threads, fetch, cache, strands, [1, 3, 4])


@pytest.mark.threads
def test_three_members_get_the_same_batches(tmp_path, dataset):
    config = configure(tmp_path, dataset)
    with harness.Daemon(config) as daemon:
        runs = harness.cat_together(daemon, [{"group": "g", "members": 3}] * 3)
    for run in runs:
        agree(run, reference(dataset).rank(0))


@pytest.mark.threads
def test_local_ranks_of_a_group_share_one_stream(tmp_path, dataset):
    config = configure(tmp_path, dataset, strands=2)
    with harness.Daemon(config) as daemon:
        options = [{"group": "g", "rank": rank, "world": 4, "local_ranks": 4} for rank in range(4)]
        runs = harness.cat_together(daemon, options)
    for rank, run in enumerate(runs):
        agree(run, reference(dataset, strands=2).rank(rank, 4))


def test_the_second_epoch_has_another_order(tmp_path, dataset):
    config = configure(tmp_path, dataset)
    known = reference(dataset)
    count = len(known.epoch())
    with harness.Daemon(config) as daemon:
        found = daemon.cat(n=2 * count)
    agree(found[:count], known.rank(0))
    agree(found[count:], known.rank(0, epoch=1))
    assert not harness.same_tensors(found[0]["tensors"], found[count]["tensors"])


@pytest.mark.parametrize("last", ["keep", "drop", "pad"])
@pytest.mark.parametrize("tail", ["repeat", "drop"])
def test_ends_of_epochs(tmp_path, dataset, last, tail):
    config = harness.one_feed(tmp_path / "c.yaml", dataset, order={"seed": 3, "window": 4, "strands": 3},
                              batch={"size": SIZE, "last": last, "tail": tail})
    known = reference(dataset, strands=3, last=last, tail=tail)
    with harness.Daemon(config) as daemon:
        for rank in range(4):
            agree(daemon.cat(rank=rank, world=4), known.rank(rank, 4))


POLICIES = [
    {"policy": "bucket", "size": SIZE},
    {"policy": "bucket", "size": 5, "boundaries": [20, 40], "shape": "bucket", "last": "pad"},
    {"policy": "bucket", "size": 16, "boundaries": {"quantiles": 6}, "last": "drop"},
    {"policy": "tokens", "tokens": 6000},
    {"policy": "tokens", "tokens": 25000, "multiple_of": 8, "last": "pad", "tail": "drop"},
]


PACKED = [
    {"policy": "pack", "size": 3, "length": 3000},
    {"policy": "pack", "size": 2, "length": 3001, "pool": 5, "group": 4, "last": "pad"},
    {"policy": "pack", "size": 1, "length": 64, "last": "drop", "tail": "drop"},
]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("batch", PACKED)
def test_packed_rows(tmp_path, dataset, batch, side):
    """The dataset's longest sequence has 3000 tokens; the last batch splits it."""
    length = {"overflow": "split"} if batch["length"] < 3000 else {}
    config = harness.one_feed(tmp_path / "c.yaml", dataset, order={"seed": 3, "window": 4, "strands": 2},
                              batch=batch, length=length, pad={"side": side, "value": 9})
    known = expected.Expected(dataset, seed=3, window=4, strands=2, batch=batch, side=side, value=9,
                              **length)
    with harness.Daemon(config) as daemon:
        for rank in range(3):
            agree(daemon.cat(rank=rank, world=3), known.rank(rank, 3))
        rounds = known.epoch(world=3)
        cursor = rounds[len(rounds) // 2][0]["cursor"]
        epoch, index = expected.plan_reference.cursor_position(cursor)
        agree(daemon.cat(resume=cursor, world=2), known.rank(0, 2, epoch, index))


@pytest.mark.parametrize("batch", POLICIES)
def test_policies_whose_units_are_batches(tmp_path, dataset, batch):
    """All ranks of three, and resumed in the middle under another number of ranks."""
    config = harness.one_feed(tmp_path / "c.yaml", dataset, order={"seed": 3, "window": 4, "strands": 2},
                              batch=batch)
    known = expected.Expected(dataset, seed=3, window=4, strands=2, batch=batch)
    with harness.Daemon(config) as daemon:
        for rank in range(3):
            agree(daemon.cat(rank=rank, world=3), known.rank(rank, 3))
        rounds = known.epoch(world=3)
        cursor = rounds[len(rounds) // 2][0]["cursor"]
        epoch, index = expected.plan_reference.cursor_position(cursor)
        agree(daemon.cat(resume=cursor, world=2), known.rank(0, 2, epoch, index))


def test_a_cursor_of_other_boundaries_is_refused(tmp_path, dataset):
    long = list(range(1, 60, 2))
    config = harness.one_feed(tmp_path / "c.yaml", dataset, order={"seed": 3, "window": 4},
                              batch={"policy": "bucket", "size": 8, "boundaries": long})
    known = expected.Expected(dataset, seed=3, window=4, batch={"policy": "bucket", "size": 8,
                                                                "boundaries": long})
    with harness.Daemon(config) as daemon:
        first = daemon.cat(n=3)
        agree(first, known.rank(0)[:3])
        assert ";batch=#" in first[0]["cursor"]
        agree(daemon.cat(n=2, resume=first[2]["cursor"]), known.rank(0)[3:5])
    with harness.Daemon(harness.one_feed(
            tmp_path / "d.yaml", dataset, order={"seed": 3, "window": 4},
            batch={"policy": "bucket", "size": 8, "boundaries": [9, 30]})) as daemon:
        done = harness.tool(*daemon.cat_arguments(resume=first[2]["cursor"]), check=False)
        assert done.returncode == 1
        said = done.stderr
        assert "the feed has bucket/8/9,30/longest/keep/repeat" in said


@pytest.mark.parametrize("overflow", ["truncate_right", "truncate_left", "split", "drop"])
def test_long_and_empty_sequences(tmp_path, dataset, overflow):
    config = configure(tmp_path, dataset, length={"max": 25, "overflow": overflow, "empty": "drop"})
    known = reference(dataset, length_max=25, overflow=overflow, empty="drop")
    with harness.Daemon(config) as daemon:
        agree(daemon.cat(), known.rank(0))


@pytest.mark.parametrize("pad", [
    {"to": 3000, "side": "left"}, {"multiple_of": 64, "value": 7}, {"side": "left", "multiple_of": 8}])
def test_padding(tmp_path, dataset, pad):
    config = configure(tmp_path, dataset, pad=pad)
    known = reference(dataset, **pad)
    with harness.Daemon(config) as daemon:
        agree(daemon.cat(), known.rank(0))


def test_input_order_without_shuffling(tmp_path, dataset):
    config = harness.one_feed(tmp_path / "c.yaml", dataset, order={"shuffle": False})
    known = expected.Expected(dataset, shuffle=False)
    with harness.Daemon(config) as daemon:
        agree(daemon.cat(), known.rank(0))


def test_a_seed_at_attach_counts_instead_of_the_feeds(tmp_path, dataset):
    config = configure(tmp_path, dataset, seed=3)
    with harness.Daemon(config) as daemon:
        agree(daemon.cat(seed=4), reference(dataset, seed=4).rank(0))


# --- going on ------------------------------------------------------------------------------------

@pytest.mark.slow
def test_every_cursor_resumes_under_every_world(tmp_path, dataset):
    """All cursors of a run by three ranks, each under one to five ranks: what follows is what the
    reference says, for a few batches; the rest of the epoch for some."""
    config = configure(tmp_path, dataset, strands=4)
    known = reference(dataset, strands=4)
    rounds = known.epoch(world=3)
    with harness.Daemon(config) as daemon:
        for number, found in enumerate(rounds):
            world = 1 + number % 5
            epoch, index = expected.plan_reference.cursor_position(found[0]["cursor"])
            following = [each[0] for each in itertools.islice(known.stream(world, epoch, index), 3)]
            agree(daemon.cat(n=3, resume=found[0]["cursor"], world=world), following)
        for number in (0, len(rounds) // 2, len(rounds) - 2):
            cursor = rounds[number][0]["cursor"]
            epoch, index = expected.plan_reference.cursor_position(cursor)
            for rank in range(2):
                agree(daemon.cat(resume=cursor, rank=rank, world=2), known.rank(rank, 2, epoch, index))


def test_resuming_in_the_middle(tmp_path, dataset):
    config = configure(tmp_path, dataset)
    known = reference(dataset).rank(0)
    with harness.Daemon(config) as daemon:
        first = daemon.cat(n=len(known) // 2)
        second = daemon.cat(resume=first[-1]["cursor"])
    agree(first + second, known)


def test_the_cursor_of_the_last_round_is_the_next_epoch(tmp_path, dataset):
    config = configure(tmp_path, dataset)
    known = reference(dataset)
    with harness.Daemon(config) as daemon:
        last = daemon.cat(world=3)[-1]
        agree(daemon.cat(resume=last["cursor"]), known.rank(0, epoch=1))
        agree(daemon.cat(resume="sf1;epoch=7", n=5), known.rank(0, epoch=7)[:5])


def test_another_daemon_with_other_threads_goes_on_exactly(tmp_path, dataset):
    known = reference(dataset).rank(0)
    with harness.Daemon(configure(tmp_path, dataset, {"threads": 1})) as daemon:
        first = daemon.cat(n=30)
    with harness.Daemon(configure(tmp_path, dataset, {"threads": 4, "cache": 0}),
                        SEQFEED_FETCH="pread") as daemon:
        agree(first + daemon.cat(resume=first[-1]["cursor"]), known)


# --- kills ---------------------------------------------------------------------------------------

def take(trainer, batches, count):
    """Read `count` batches of a raw trainer into `batches`, as `cat` would have printed them."""
    for _ in range(count):
        batch = trainer.next()
        batches.append({"epoch": batch.epoch, "step": batch.index, "cursor": batch.cursor,
                        "tensors": {name: view.copy() for name, view in batch.tensors.items()},
                        "repeated": bool(batch.flags & raw_client.REPEATED)})
        trainer.release()


@pytest.mark.threads
@pytest.mark.parametrize("seed", range(4))
def test_kill_9_of_the_daemon_loses_and_repeats_nothing(tmp_path, dataset, seed):
    dice = random.Random(seed)
    config = configure(tmp_path, dataset, {"threads": 2}, strands=2)
    known = reference(dataset, strands=2).rank(0)
    found, options = [], {}
    daemon = harness.Daemon(config)
    with daemon:
        while len(found) < len(known):
            with raw_client.Trainer(daemon.socket, "train", **options) as trainer:
                take(trainer, found, min(dice.randint(1, 60), len(known) - len(found)))
                if len(found) < len(known):
                    daemon.kill()
                    # What was published stays readable to its end.
                    take(trainer, found, min(trainer.head - trainer.taken, len(known) - len(found)))
            options = {"cursor": found[-1]["cursor"]}
            if daemon.process.returncode is not None:
                daemon.start()
    agree(found, known)


def test_trainers_notice_that_the_daemon_died(tmp_path, dataset):
    config = configure(tmp_path, dataset)
    with harness.Daemon(config) as daemon:
        running = daemon.cat_start(n=10 ** 9)
        running.wait_lines(1)
        daemon.kill()
        assert running.wait() == 1
        assert "daemon" in running.errors


@pytest.mark.parametrize("seed", range(3))
def test_kill_9_of_a_trainer_costs_the_others_nothing(tmp_path, dataset, seed):
    """Members of one group: one is killed while it holds batches, the others see every batch, and
    the killed one goes on at its cursor."""
    dice = random.Random(seed)
    config = configure(tmp_path, dataset, ring={"slots": 4})
    known = reference(dataset).rank(0)
    with harness.Daemon(config) as daemon:
        victim = daemon.cat_start(n=10 ** 9, group="g", members=2)
        other = daemon.cat_start(n=len(known), group="g", members=2)
        victim.wait_lines(dice.randint(1, 40))
        victim.kill()
        agree(other.finish(), known)
        before = victim.batches[:len(known) - 1]
        agree((before + daemon.cat(resume=before[-1]["cursor"])), known)


def test_the_daemon_forgets_killed_trainers(tmp_path, dataset):
    config = configure(tmp_path, dataset)
    with harness.Daemon(config) as daemon:
        daemon.cat(n=1)
        before = daemon.descriptors()
        for _ in range(20):
            running = daemon.cat_start(n=10 ** 9)
            running.wait_lines(1)
            running.kill()
        daemon.cat(n=1)
        harness.wait_until(lambda: not daemon.status()["streams"], "streams of dead trainers remain")
        assert daemon.descriptors() <= before + 2
