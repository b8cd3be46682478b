# SPDX-License-Identifier: MIT
"""Memory stays within the setting plus a constant, and waiting costs nothing."""
import pathlib
import time

import harness
import pytest
import raw_client

pytestmark = pytest.mark.speed

MIB = 1 << 20
CONSTANT = 32 * MIB


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """About 60 MB of tokens, more than the memory below."""
    text = tmp_path_factory.mktemp("memory") / "text"
    licences = b"\n".join(path.read_bytes() for path in
                          sorted(pathlib.Path("/usr/share/common-licenses").iterdir()) if path.is_file())
    text.write_bytes(licences * (60 * MIB // len(licences)))
    harness.tool("pack", "--text", "--level", "1", "-o", text.with_name("dataset"), text)
    return text.with_name("dataset")


def highest_while(daemon, running):
    """The most memory that the daemon held until all of `running` ended."""
    highest = 0
    while any(process.poll() is None for process in running):
        highest = max(highest, daemon.resident_bytes())
        time.sleep(0.02)
    for process in running:
        assert process.communicate()[1] == "" or process.returncode == 0
    return max(highest, daemon.resident_bytes())


@pytest.mark.parametrize("cache", ["0", "auto"])
@pytest.mark.parametrize("streams", [1, 3])
def test_memory_is_bounded_by_its_setting(tmp_path, dataset, cache, streams):
    memory = 64 * MIB
    config = harness.one_feed(tmp_path / "c.yaml", dataset, {"memory": "64MiB", "cache": cache,
                                                            "threads": 2},
                              batch={"size": 64}, order={"window": 16}, ring={"slots": 4})
    with harness.Daemon(config) as daemon:
        running = [daemon.tool_start("bench", "train") for _ in range(streams)]
        highest = highest_while(daemon, running)
        assert all(process.returncode == 0 for process in running)
        assert highest <= memory + CONSTANT, f"{highest / MIB:.0f} MiB"


def test_memory_returns_when_trainers_leave(tmp_path, dataset):
    config = harness.one_feed(tmp_path / "c.yaml", dataset, {"memory": "64MiB", "cache": 0},
                              batch={"size": 64}, order={"window": 16}, ring={"slots": 4})
    with harness.Daemon(config) as daemon:
        idle = daemon.resident_bytes()
        daemon.cat(n=20)
        harness.wait_until(lambda: not daemon.status()["streams"], "the stream is still there")
        harness.wait_until(lambda: daemon.resident_bytes() < idle + 8 * MIB, "memory was not given back")


def test_large_batches_are_reserved_in_full(tmp_path):
    """Beside the ring: how long each row is, which bytes of a slot are not zero (each row is padded, so
    they are as many runs as rows), and what each worker notes about the rows of a batch."""
    rows = 1 << 20
    text = tmp_path / "text"
    text.write_bytes(b"a\n" * rows)
    harness.tool("pack", "--text", "--level", "1", "-o", tmp_path / "many", text)
    config = harness.one_feed(tmp_path / "c.yaml", tmp_path / "many",
                              {"memory": "1GiB", "cache": 0, "threads": 2}, batch={"size": rows},
                              pad={"to": 2},
                              tensors={"tokens": {"from": "tokens", "dtype": "uint8"}},
                              ring={"slots": 16})
    with harness.Daemon(config) as daemon:
        idle = daemon.resident_bytes()
        with raw_client.Trainer(daemon.socket, "train") as trainer:
            for _ in range(3 * trainer.slot_count):
                trainer.next()
                trainer.release()
            reserved = daemon.status()["memory"]["reserved"]
            assert daemon.resident_bytes() <= idle + reserved + MIB


def test_a_cache_of_small_blocks_gives_its_memory_back(tmp_path, dataset):
    """Its blocks leave in any order; they must not leave one mapping each, of which there can be 65530."""
    small = tmp_path / "small"
    harness.tool("pack", "--text", "--level", "1", "--block", "4KiB", "-o", small, dataset.with_name("text"))
    large = {"dataset": small, "batch": {"size": 64}, "pad": {"to": 8192}, "ring": {"slots": 8},
             "order": {"window": 16}}
    feeds = {"train": {"dataset": small, "batch": {"size": 64}, "order": {"window": 16},
                       "ring": {"slots": 2}}, "large": large}
    config = harness.write_config(tmp_path / "c.yaml", feeds, memory="64MiB")
    with harness.Daemon(config) as daemon:
        def mappings():
            return len(pathlib.Path(f"/proc/{daemon.pid}/maps").read_text().splitlines())

        empty = mappings()
        assert daemon.tool_start("bench", "train").wait() == 0
        assert daemon.resident_bytes() > 40 * MIB
        with raw_client.Trainer(daemon.socket, "large") as trainer:
            harness.wait_until(lambda: trainer.head == trainer.slot_count, "ring not full")
            assert daemon.resident_bytes() <= 64 * MIB + CONSTANT
            assert mappings() < empty + 500


def cpu_share(daemon, seconds=3):
    before = daemon.cpu_seconds()
    time.sleep(seconds)
    return (daemon.cpu_seconds() - before) / seconds


def test_nobody_attached_costs_nothing(tmp_path, dataset):
    with harness.Daemon(harness.one_feed(tmp_path / "c.yaml", dataset)) as daemon:
        assert cpu_share(daemon) < 0.01


def test_full_rings_cost_nothing(tmp_path, dataset):
    config = harness.one_feed(tmp_path / "c.yaml", dataset, {"memory": "256MiB"}, order={"window": 16})
    with harness.Daemon(config) as daemon:
        with raw_client.Trainer(daemon.socket, "train") as one, \
                raw_client.Trainer(daemon.socket, "train") as other:
            for trainer in (one, other):
                harness.wait_until(lambda held=trainer: held.head == held.slot_count, "ring not full")
            time.sleep(0.5)
            assert cpu_share(daemon) < 0.01
