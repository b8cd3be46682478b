# SPDX-License-Identifier: MIT
"""The loader for JAX; skipped where JAX cannot be imported."""
import json
import socket
import subprocess
import sys

import harness
import numpy
import pytest
import seqfeed

jax = pytest.importorskip("jax", reason="no JAX here")

import seqfeed.jax  # noqa: E402  needs JAX


def test_arrays_are_the_batches(start, corpus):
    daemon = start(corpus[1], batch={"size": 8})
    wanted = [(batch["tokens"].numpy().copy(), batch["mask"].numpy().copy())
              for batch in seqfeed.attach("train", socket=daemon.socket)]
    loader = seqfeed.jax.Loader("train", socket=daemon.socket)
    assert len(loader) == len(wanted) and loader.last is None
    arrays = list(loader)  # far more than slots: nothing is held
    assert (loader.last.index, loader.last.rows) == (25, 3) == (25, len(arrays[-1]["tokens"]))
    assert loader.last.ledger.tokens == arrays[-1]["lengths"].sum() and not loader.last.repeated
    assert all(isinstance(batch["tokens"], jax.Array) for batch in arrays)
    assert all(numpy.array_equal(batch["tokens"], tokens) and numpy.array_equal(batch["mask"], mask)
               for batch, (tokens, mask) in zip(arrays, wanted))
    state = loader.state_dict()
    assert ";epoch=1;index=0;" in state["cursor"]


def test_what_could_not_be_moved_comes_again(start, corpus, monkeypatch):
    loader = seqfeed.jax.Loader("train", socket=start(corpus[1], batch={"size": 8}, ring={"slots": 1}).socket)
    iterator = iter(loader)
    seen = []
    for _ in range(3):
        next(iterator)
        seen.append(loader.last.index)
        state = loader.state_dict()
        with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="none left"):
            patched.setattr(jax, "device_put", lambda *_: (_ for _ in ()).throw(RuntimeError("none left")))
            next(iterator)
        assert loader.state_dict() == state and loader.last.index == seen[-1]
    assert seen == [0, 1, 2] and len(list(loader)) == 23
    assert loader.epoch == 1 and len(list(loader)) == 26


def test_views_by_dlpack(start, corpus):
    daemon = start(corpus[1], batch={"size": 8})
    batch = next(seqfeed.attach("train", socket=daemon.socket))
    array = jax.dlpack.from_dlpack(batch["mask"])
    assert numpy.array_equal(array, batch["mask"].numpy())
    del array


TWO_PROCESSES = """
import json, sys
import jax, numpy
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
import seqfeed.jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
rows = NamedSharding(Mesh(numpy.array(jax.devices()), ("rows",)), PartitionSpec("rows"))
loader = seqfeed.jax.Loader("train", socket=sys.argv[3], sharding=rows)
sums = jax.jit(lambda batch: (batch["tokens"].sum(), batch["mask"].sum()))
steps = []
for batch in loader:
    assert batch["tokens"].shape == (32, 40)
    steps.append([*map(int, sums(batch)), loader.last.index, loader.last.repeated])
print(json.dumps(steps))
"""


@pytest.mark.slow
def test_two_processes_make_global_arrays(start, corpus):
    rows, dataset = corpus
    daemon = start(dataset, order={"shuffle": False}, batch={"size": 16, "last": "pad"}, pad={"to": 40})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{probe.getsockname()[1]}"
    running = [subprocess.Popen([sys.executable, "-c", TWO_PROCESSES, place, str(number), str(daemon.socket)],
                                text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                env=harness.environment(OMP_NUM_THREADS=1)) for number in range(2)]
    ran = [process.communicate(timeout=400) for process in running]
    assert [process.returncode for process in running] == [0, 0], ran
    batches = [rows[at:at + 16] for at in range(0, 203, 16)]
    batches.append(batches[0])  # completes the last round, and says so
    for number, (said, _) in enumerate(ran):
        wanted = []
        for step in range(7):
            both = batches[2 * step] + batches[2 * step + 1]
            wanted.append([sum(sum(row["tokens"]) for row in both), sum(len(row["tokens"]) for row in both),
                           2 * step + number, (step, number) == (6, 1)])
        assert json.loads(said.splitlines()[-1]) == wanted
