# SPDX-License-Identifier: MIT
"""Batches, their views, and who may keep them how long."""
import collections.abc
import gc
import sys
import types

import harness
import numpy
import pytest
import seqfeed

TENSORS = {"tokens": {"from": "tokens", "dtype": "int64"}, "small": {"from": "tokens", "dtype": "int32"},
           "mask": {"mask": "lengths", "dtype": "bool"}, "weight": {"mask": "lengths", "dtype": "float32"},
           "bytes": {"mask": "lengths", "dtype": "uint8"}, "lengths": {"from": "lengths"}}
NUMPY_2 = int(numpy.__version__.split(".")[0]) >= 2


@pytest.mark.parametrize("side", ["right", "left"])
def test_batches_are_what_the_rows_say(start, corpus, side):
    rows, dataset = corpus
    daemon = start(dataset, order={"shuffle": False}, batch={"size": 16}, pad={"side": side})
    with seqfeed.attach("train", socket=daemon.socket) as feed:
        assert len(feed) == 13
        for number, batch in enumerate(feed):
            part = rows[16 * number:16 * number + 16]
            wanted = harness.padded([row["tokens"] for row in part], side)
            wanted["labels"] = numpy.array([row["label"] for row in part])
            assert (batch.epoch, batch.index, batch.rows) == (0, number, len(part))
            assert batch.real_tokens == wanted["lengths"].sum()
            assert list(batch) == ["tokens", "mask", "labels", "lengths"]
            assert batch["tokens"].side == side
            for name, array in batch.numpy().items():
                assert array.dtype == wanted[name].dtype and numpy.array_equal(array, wanted[name])
        assert number == 12
    del batch


def test_every_dtype_arrives(start, corpus):
    rows, dataset = corpus
    daemon = start(dataset, order={"shuffle": False}, batch={"size": 8}, tensors=TENSORS)
    batch = next(seqfeed.attach("train", socket=daemon.socket))
    wanted = harness.padded([row["tokens"] for row in rows[:8]])
    for name, dtype, array in (("tokens", "int64", wanted["tokens"]), ("small", "int32", wanted["tokens"]),
                               ("mask", "bool", wanted["mask"]), ("weight", "float32", wanted["mask"]),
                               ("bytes", "uint8", wanted["mask"]), ("lengths", "int64", wanted["lengths"])):
        tensor = batch[name]
        assert (tensor.dtype, tensor.shape) == (dtype, array.shape)
        assert str(tensor.numpy().dtype) == dtype and numpy.array_equal(tensor.numpy(), array)
        assert memoryview(tensor).readonly and memoryview(tensor).tolist() == tensor.tolist()
        if NUMPY_2 or dtype != "bool":  # older ones know no bool there
            assert numpy.array_equal(numpy.from_dlpack(tensor), array)
    assert batch["mask"].polarity == "keep"


def test_bfloat16_needs_a_type_that_numpy_lacks(start, corpus, monkeypatch):
    daemon = start(corpus[1], batch={"size": 8},
                   tensors=TENSORS | {"brain": {"mask": "lengths", "dtype": "bfloat16"}})
    batch = next(seqfeed.attach("train", socket=daemon.socket))
    bits = numpy.where(batch["mask"].numpy(), 0x3f80, 0)  # 1.0
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(TypeError, match=r"^brain is bfloat16, which numpy lacks: install ml_dtypes"):
        batch["brain"].numpy()
    assert numpy.array_equal(numpy.asarray(batch["brain"]), bits)
    fake = types.SimpleNamespace(bfloat16=numpy.dtype([("bits", numpy.uint16)]))
    monkeypatch.setitem(sys.modules, "ml_dtypes", fake)
    array = batch["brain"].numpy()
    assert array.dtype == fake.bfloat16 and numpy.array_equal(array["bits"], bits)
    del array
    batch.release()
    with pytest.raises(ValueError, match="given back"):
        batch["brain"].numpy()


@pytest.fixture
def feed(start, corpus):
    daemon = start(corpus[1], batch={"size": 8}, ring={"slots": 4})
    with seqfeed.attach("train", socket=daemon.socket) as feed:
        yield feed


@pytest.mark.parametrize("batch", [{"size": 16}, {"policy": "tokens", "tokens": 400},
                                   {"policy": "pack", "size": 2, "length": 100}], ids=lambda batch: str(batch))
def test_the_ledger_counts(start, corpus, batch):
    rows, dataset = corpus
    daemon = start(dataset, batch=batch, length={"empty": "keep"})
    totals = numpy.zeros(3, int)
    for each in seqfeed.attach("train", socket=daemon.socket):
        lengths = each["lengths"].numpy().copy()
        ledger = each.ledger
        assert ledger[:4] == ((lengths > 0).sum(), lengths.sum(), each["tokens"].numpy().size,
                              (lengths ** 2).sum())
        assert ledger.tokens_in == ledger.trained + ledger.ignored + ledger.truncated + ledger.dropped
        assert (ledger.rows, ledger.padded) == (each.rows, ledger.places - ledger.tokens)
        assert ledger.repeated == (ledger.tokens if each.repeated else 0)
        totals += [ledger.sequences, ledger.tokens, ledger.squares]
        each.release()
        with pytest.raises(ValueError, match="given back"):
            each.ledger
    wanted = numpy.array([len(row["tokens"]) for row in rows])
    assert totals.tolist() == [len(rows), wanted.sum(), (wanted ** 2).sum()]


def test_a_batch_is_a_mapping(feed):
    batch = next(feed)
    assert isinstance(batch, collections.abc.Mapping)
    assert set(batch.keys()) == {"tokens", "mask", "labels", "lengths"}
    assert "tokens" in batch and "nothing" not in batch and 3 not in batch
    assert batch.get("nothing") is None and len(batch) == len(dict(batch)) == 4
    for key in ("nothing", 3):
        with pytest.raises(KeyError, match=f"no tensor {key!r}: this batch has tokens, mask, labels, lengths"):
            batch[key]
    assert "tokens: int64 [8," in repr(batch)
    with pytest.raises(TypeError):
        type(batch)()


def test_views_are_read_only(feed):
    batch = next(feed)
    array = batch["tokens"].numpy()
    assert not array.flags.writeable
    with pytest.raises(ValueError):
        array[0, 0] = 1
    with pytest.raises(ValueError):
        array.flags.writeable = True
    with open("/dev/zero", "rb") as zeros, pytest.raises((BufferError, TypeError)):
        zeros.readinto(batch["tokens"])


def test_with_gives_back_at_its_end(feed):
    with next(feed) as batch:
        total = int(batch["tokens"].numpy().sum())
        tensor = batch["tokens"]
    assert total > 0 and batch.released and "given back" in repr(batch)
    for use in (lambda: batch["tokens"], lambda: list(batch), tensor.numpy, tensor.__dlpack__,
                lambda: numpy.asarray(tensor), lambda: memoryview(tensor)):
        with pytest.raises(ValueError, match="given back"):
            use()
    batch.release()  # again is harmless


@pytest.mark.parametrize("view", [lambda tensor: tensor.numpy()[1:], memoryview, numpy.asarray,
                                  lambda tensor: tensor.__dlpack__(max_version=(1, 0))],
                         ids=["slice", "memoryview", "asarray", "capsule"])
def test_with_refuses_while_views_live(feed, view):
    with pytest.raises(BufferError, match="1 view of this batch still lives"):
        with next(feed) as batch:
            kept = view(batch["tokens"])
    assert not batch.released and kept is not None
    del kept
    gc.collect()
    batch.release()


def test_an_error_in_the_block_is_not_covered(feed):
    with pytest.raises(ZeroDivisionError):
        with next(feed) as batch:
            kept = batch["tokens"].numpy()
            raise ZeroDivisionError
    assert not batch.released and kept.size


def test_a_view_outlives_everything_and_never_changes(feed):
    kept = [(array, array.copy()) for array in (next(feed)["tokens"].numpy() for _ in range(3))]
    for _ in range(2):
        gc.collect()
        next(feed).release()  # the fourth slot is the only one that is free
        with pytest.raises(BufferError, match="holds the oldest of 4 batches"):
            next(feed)
        break
    assert all(numpy.array_equal(array, copy) for array, copy in kept)
    feed.close()
    assert all(numpy.array_equal(array, copy) for array, copy in kept)


def test_holding_all_is_said_at_once(feed):
    held = [next(feed) for _ in range(4)]
    with pytest.raises(BufferError, match="this process holds all 4 batches"):
        feed.next(timeout=60)
    held.pop()
    assert isinstance(held, list)
    del held
    assert next(feed) is not None


def test_old_dlpack_gets_a_copy(feed):
    batch = next(feed)
    tensor = batch["tokens"]
    capsule = tensor.__dlpack__()
    assert '"dltensor"' in repr(capsule)
    batch.release()  # nothing of the slot is shared
    with pytest.raises(ValueError):
        tensor.__dlpack__()


def test_dlpack_refuses_what_cannot_be(feed):
    tensor = next(feed)["tokens"]
    assert tensor.__dlpack_device__() == (1, 0)
    with pytest.raises(BufferError, match="read-only"):
        tensor.__dlpack__(copy=False)
    with pytest.raises(BufferError, match="CPU"):
        tensor.__dlpack__(max_version=(1, 0), dl_device=(2, 0))
    assert "dltensor_versioned" in repr(tensor.__dlpack__(max_version=(1, 1), copy=True))


def test_a_batch_that_was_given_back_has_no_names(start, corpus):
    batch = next(seqfeed.attach("train", socket=start(corpus[1], batch={"size": 8}).socket))
    assert "tokens" in batch and "nothing" not in batch and 3 not in batch
    batch.release()
    for ask in (lambda: "tokens" in batch, lambda: batch["tokens"], lambda: list(batch), lambda: batch.get("tokens")):
        with pytest.raises(ValueError, match="given back"):
            ask()
