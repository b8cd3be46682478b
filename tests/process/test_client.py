# SPDX-License-Identifier: MIT
"""The client as programs see it: the example trainers, `cat` and `bench`."""
import json
import random
import re
import signal
import subprocess
import time

import harness
import pytest

BATCHES = 40
LONG_RUN = 150  # epochs: long enough to be interrupted
TRAINERS = ["trainer", "trainer_library", "trainer_cc", "trainer_cc_library"]
LINE = re.compile(r"epoch (\d+) batch (\d+): (\d+) rows, (\d+) tokens, sum (\d+)")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    dice = random.Random(3)
    rows = [{"tokens": [dice.randrange(1000) for _ in range(dice.randrange(1, 30))], "label": 0}
            for _ in range(BATCHES * 4)]
    return harness.pack(tmp_path_factory.mktemp("client") / "dataset", rows, "--block", "4KiB")


@pytest.fixture
def config(tmp_path, dataset):
    return harness.one_feed(tmp_path / "c.yaml", dataset, batch={"size": 4})


@pytest.fixture
def daemon(config):
    with harness.Daemon(config) as running:
        yield running


@pytest.fixture(scope="module")
def long_run(tmp_path_factory, dataset):
    config = harness.one_feed(tmp_path_factory.mktemp("long") / "c.yaml", dataset, batch={"size": 4})
    with harness.Daemon(config) as running:
        return expected(running.cat(n=LONG_RUN * BATCHES))


def program(name):
    path = harness.BUILD / "examples" / name
    if not path.exists():
        pytest.skip(f"{name} is not built here")
    return path


def start(name, daemon, *arguments, output=subprocess.PIPE):
    return subprocess.Popen([str(program(name)), "train", *map(str, arguments)], text=True,
                            stdout=output, stderr=subprocess.PIPE,
                            env=harness.environment(SEQFEED_SOCKET=daemon.socket))


def seen(text):
    """What a trainer printed of its batches."""
    return [tuple(map(int, found)) for found in LINE.findall(text)]


def expected(batches):
    return [(batch["epoch"], batch["step"], len(batch["tensors"]["lengths"]),
             int(batch["tensors"]["mask"].sum()),
             int((batch["tensors"]["tokens"] * batch["tensors"]["mask"]).sum()))
            for batch in batches]


# --- the examples --------------------------------------------------------------------------------

@pytest.mark.parametrize("name", TRAINERS)
def test_an_example_sees_two_epochs(daemon, name):
    trainer = start(name, daemon, "", 2)
    out, said = trainer.communicate(timeout=60 * harness.PATIENCE)
    assert trainer.returncode == 0, said
    assert seen(out) == expected(daemon.cat(n=2 * BATCHES))
    assert out.splitlines()[-1].startswith(f"{2 * BATCHES} batches")


@pytest.mark.parametrize("name", TRAINERS)
def test_an_example_goes_on_where_its_checkpoint_is(daemon, tmp_path, name):
    known = expected(daemon.cat())
    checkpoint = tmp_path / "checkpoint"
    trainer = start(name, daemon, checkpoint, 1000)
    harness.wait_until(checkpoint.exists, "no checkpoint")
    trainer.kill()
    trainer.communicate()
    cursor = checkpoint.read_text().strip()
    place = re.search(r";epoch=(\d+);index=(\d+);", cursor)
    epoch, index = map(int, place.groups())
    trainer = start(name, daemon, checkpoint, 1)
    out, said = trainer.communicate(timeout=60 * harness.PATIENCE)
    assert trainer.returncode == 0, said
    assert f"going on at {cursor}" in out
    assert seen(out)[0][:2] == (epoch, index)
    assert len(seen(out)) == BATCHES - index
    if epoch == 0:
        assert seen(out) == known[index:]


@pytest.mark.parametrize("name", TRAINERS)
def test_an_example_survives_the_death_of_the_daemon(start_daemon, config, long_run, tmp_path, name):
    daemon = start_daemon(config)
    printed = tmp_path / "printed"
    with open(printed, "w", encoding="ascii") as output:
        trainer = start(name, daemon, "", LONG_RUN, output=output)
    harness.wait_until(lambda: printed.read_text().count("\n") > 2, "no batch")
    trainer.send_signal(signal.SIGSTOP)
    daemon.kill()
    daemon.start()
    trainer.send_signal(signal.SIGCONT)
    said = trainer.communicate(timeout=60 * harness.PATIENCE)[1]
    assert trainer.returncode == 0, said
    assert seen(printed.read_text()) == long_run
    if "gone" not in said:
        pytest.skip("it was done before the daemon died")


# --- cat -----------------------------------------------------------------------------------------

def test_cat_ends_with_the_epoch_and_n_goes_beyond(daemon):
    epoch = daemon.cat()
    more = daemon.cat(n=BATCHES + 3)
    assert [(batch["epoch"], batch["step"]) for batch in epoch] == [(0, i) for i in range(BATCHES)]
    harness.same_batches(more[:BATCHES], epoch)
    assert [(batch["epoch"], batch["step"]) for batch in more[BATCHES:]] == [(1, 0), (1, 1), (1, 2)]
    assert len(daemon.cat(n=2)) == 2


def test_a_daemon_that_is_stopped_is_waited_for_once(start_daemon, config):
    """The time-out of an attach is one deadline, whatever the daemon has answered before."""
    daemon = start_daemon(config)
    daemon.process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    ran = daemon.tool("cat", "train", "--timeout", "2500ms", check=False)
    took = time.monotonic() - begun
    daemon.process.send_signal(signal.SIGCONT)
    assert ran.returncode == 1 and "the daemon did not answer in time" in ran.stderr
    assert 2.5 <= took < 4.5


def test_an_object_has_exactly_these_keys(daemon):
    batch = json.loads(daemon.tool("cat", "train", "--json", "-n", 1).stdout)
    assert list(batch) == ["epoch", "step", "cursor", "tensors", "ledger"]
    assert list(batch["tensors"]["tokens"]) == ["dtype", "shape", "data"]


def test_options_may_follow_operands(daemon):
    one = daemon.tool("cat", "-n", 1, "--json", "train").stdout
    other = daemon.tool("cat", "train", "--json", "-n1").stdout
    assert one == other != ""


def test_cat_into_a_closed_pipe_is_quiet(daemon):
    ran = subprocess.run(["/bin/sh", "-c", f"'{harness.TOOL}' cat train --json --socket "
                          f"'{daemon.socket}' -n 10000 | head -n 1"], text=True,
                         capture_output=True, check=False, timeout=60 * harness.PATIENCE)
    assert len(ran.stdout.splitlines()) == 1
    assert ran.stderr == ""


def test_cat_that_cannot_write_says_so(daemon):
    with open("/dev/full", "w", encoding="ascii") as full:
        ran = subprocess.run([str(harness.TOOL), "cat", "train", "--json", "--socket",
                              str(daemon.socket)], stdout=full, stderr=subprocess.PIPE, text=True,
                             check=False, timeout=60 * harness.PATIENCE)
    assert ran.returncode == 1
    assert "No space left" in ran.stderr


def test_a_table_of_wide_batches_stays_narrow(tmp_path):
    dataset = harness.pack(tmp_path / "wide", [{"tokens": list(range(500))}] * 40)
    with harness.Daemon(harness.one_feed(tmp_path / "w.yaml", dataset)) as daemon:
        text = daemon.tool("cat", "train").stdout
    assert max(map(len, text.splitlines())) <= 100
    assert "..." in text


def test_who_waits_says_so(daemon):
    ran = daemon.tool("cat", "train", "--group", "g", "--members", 2, "--timeout", "6", check=False)
    assert ran.returncode == 1
    lines = ran.stderr.splitlines()
    assert lines[0].startswith("seqfeed: waiting for"), lines
    assert lines[-1].startswith("seqfeed cat: "), lines


# --- bench ---------------------------------------------------------------------------------------

def test_bench_counts_what_the_epoch_holds(daemon):
    epoch = daemon.cat()
    tokens = sum(int(batch["tensors"]["mask"].sum()) for batch in epoch)
    found = json.loads(daemon.tool("bench", "train", "--json").stdout)
    assert list(found) == ["batches", "tokens", "seconds", "tokens_per_second"]
    assert (found["batches"], found["tokens"]) == (BATCHES, tokens)
    assert found["seconds"] > 0 and found["tokens_per_second"] > 0
    found = json.loads(daemon.tool("bench", "train", "--json", "-n", BATCHES * 50 + 7).stdout)
    assert found["batches"] == BATCHES * 50 + 7


def test_bench_for_people(daemon):
    assert re.match(r"40 batches, .* tokens in .* (us|ms|s): .* tokens/s\n",
                    daemon.tool("bench", "train").stdout)
