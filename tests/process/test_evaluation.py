# SPDX-License-Identifier: MIT
"""The evaluation example: the sums of all ranks together are those of the dataset, exactly."""
import json
import subprocess
import sys

import harness
import pytest

EXAMPLE = harness.ROOT / "examples" / "evaluate.py"
PACKAGE = harness.BUILD / "bindings" / "python"
EXTENSION = PACKAGE / "seqfeed" / "_seqfeed.abi3.so"

pytestmark = pytest.mark.skipif(harness.SANITIZED or not EXTENSION.exists(),
                                reason="the Python package is not built, or with a sanitizer")


@pytest.fixture(scope="module")
def rows():
    """Some labels are the number that elsewhere means no label."""
    found = harness.random_rows(500, seed=8, longest=40)
    return [{**row, "label": -100 if number % 7 == 0 else row["label"]} for number, row in enumerate(found)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, rows):
    return harness.pack(tmp_path_factory.mktemp("evaluation") / "dataset", rows, "--block", "4KiB")


@pytest.mark.parametrize("batch", [
    {"size": 16}, {"size": 16, "last": "pad"}, {"policy": "bucket", "size": 8},
    {"policy": "tokens", "tokens": 400}, {"policy": "pack", "size": 2, "length": 64}])
@pytest.mark.parametrize("world", [1, 3, 4])
def test_every_sequence_counts_once(tmp_path, rows, dataset, batch, world):
    config = harness.one_feed(tmp_path / "c.yaml", dataset, order={"strands": 2, "window": 2}, batch=batch)
    said = []
    with harness.Daemon(config) as daemon:
        for rank in range(world):
            env = harness.environment(PYTHONPATH=str(PACKAGE), SEQFEED_SOCKET=str(daemon.socket),
                                      RANK=str(rank), WORLD_SIZE=str(world), LOCAL_WORLD_SIZE="1")
            ran = subprocess.run([sys.executable, str(EXAMPLE), "train"], env=env, timeout=60,
                                 capture_output=True, text=True)
            assert ran.returncode == 0, ran.stderr
            said.append(json.loads(ran.stdout))
    assert sum(one["sequences"] for one in said) == len(rows)
    assert sum(one["sum"] for one in said) == sum(row["label"] for row in rows)
    assert len({one["batches"] for one in said}) == 1
