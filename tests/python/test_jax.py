# SPDX-License-Identifier: MIT
"""The loader for JAX; skipped where JAX cannot be imported."""
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
    assert len(loader) == len(wanted)
    arrays = list(loader)  # far more than slots: nothing is held
    assert all(isinstance(batch["tokens"], jax.Array) for batch in arrays)
    assert all(numpy.array_equal(batch["tokens"], tokens) and numpy.array_equal(batch["mask"], mask)
               for batch, (tokens, mask) in zip(arrays, wanted))
    state = loader.state_dict()
    assert ";epoch=1;index=0;" in state["cursor"]


def test_views_by_dlpack(start, corpus):
    daemon = start(corpus[1], batch={"size": 8})
    batch = next(seqfeed.attach("train", socket=daemon.socket))
    array = jax.dlpack.from_dlpack(batch["mask"])
    assert numpy.array_equal(array, batch["mask"].numpy())
    del array
