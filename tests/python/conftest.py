# SPDX-License-Identifier: MIT
"""The Python package against real daemons; what the process tests share serves here too."""
import os
import pathlib
import sys
import threading

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "process"))

import harness  # noqa: E402  found through the line above

PACKAGE = harness.BUILD / "bindings" / "python"
HAS_PACKAGE = (PACKAGE / "seqfeed" / "_seqfeed.abi3.so").exists()
sys.path.insert(0, str(PACKAGE))
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH", "")]))
for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "SEQFEED_SOCKET", "TORCHELASTIC_RUN_ID",
             "MASTER_ADDR", "MASTER_PORT"):
    os.environ.pop(name, None)

# Without the extension no module here can be imported: one skipped test says why.
collect_ignore_glob = [] if HAS_PACKAGE else ["test_[!b]*.py", "test_batch.py"]


@pytest.fixture(scope="session", autouse=True)
def programs():
    harness.require_programs()
    harness.adopt_orphans()
    harness.usual_signals()


@pytest.fixture(autouse=True)
def no_process_is_left():
    with harness.nothing_left_running(timeout=5):
        yield


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """(rows, directory) of a small dataset with labels."""
    rows = harness.random_rows(203, seed=5, shortest=1)
    return rows, harness.pack(tmp_path_factory.mktemp("corpus") / "data", rows)


@pytest.fixture
def start(tmp_path):
    """start(dataset, **feed) -> a running daemon of the test harness with a feed `train`."""
    started = []

    def begin(dataset, top=None, **feed):
        config = harness.one_feed(tmp_path / f"{len(started)}.yaml", dataset, top, **feed)
        started.append(harness.Daemon(config))
        return started[-1]

    yield begin
    for daemon in started:
        try:
            if daemon.process.returncode is None:
                daemon.stop()
        finally:
            daemon.remove()


@pytest.fixture
def pair():
    """pair(attach, daemon, group) -> what attach() gives to the two members of a group, which come together."""
    def both(attach, daemon, group="g"):
        made = []
        threads = [threading.Thread(target=lambda: made.append(
            attach("train", socket=daemon.socket, group=group, members=2))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return made

    return both
