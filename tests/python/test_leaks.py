# SPDX-License-Identifier: MIT
"""Thousands of batches, and everything is given back: memory, references, descriptors."""
import gc
import os
import re
import sys
import time

import numpy
import pytest
import seqfeed
from seqfeed import _seqfeed

CLASSES = (seqfeed.Batch, seqfeed.Tensor, _seqfeed.Attachment, _seqfeed.Memory, _seqfeed.Dataset,
           _seqfeed.Writer, _seqfeed.Maker)


def resident():
    """Bytes of this process that are its own."""
    with open("/proc/self/status", encoding="ascii") as file:
        return int(re.search(r"RssAnon:\s*(\d+) kB", file.read()).group(1)) << 10


def counts():
    """(references to the classes, each object holds one; objects; descriptors)"""
    gc.collect()
    return [sys.getrefcount(each) for each in CLASSES], len(gc.get_objects()), len(os.listdir("/proc/self/fd"))


def settled(work, times):
    """Do it so often, and again so often: the second time takes nothing that it does not give back."""
    for _ in range(times):
        work()
    before, bytes_before = counts(), resident()
    for _ in range(times):
        work()
    after, grown = counts(), resident() - bytes_before
    assert after[0] == before[0] and after[2] == before[2]
    assert abs(after[1] - before[1]) < 100  # others in this process make some, too
    assert grown < 512 << 10, f"{grown} bytes more"


@pytest.mark.speed
def test_batches_through_every_door(start, corpus):
    daemon = start(corpus[1], top={"cache": "auto"}, batch={"size": 2})
    feed = seqfeed.attach("train", socket=daemon.socket)
    target = _seqfeed.Memory(1 << 16)

    def epoch():
        for batch in feed:
            with batch:
                for name, tensor in batch.items():
                    array, view = tensor.numpy(), memoryview(tensor)
                    shared = tensor.__dlpack__(max_version=(1, 0))
                    copied, old = tensor.__dlpack__(copy=True), tensor.__dlpack__()
                    tensor.copy_to(target, 0)
                    assert (tensor.name, tensor.shape) == (name, array.shape) and tensor.strides
                    assert batch.ledger.tokens and batch.cursor and repr(batch) and repr(tensor)
                    del array, view, shared, copied, old
                if numpy.__version__ >= "2":
                    numpy.from_dlpack(batch["tokens"])
                assert "nothing" not in batch and batch.get("nothing") is None

    settled(epoch, 20)  # 4080 batches


@pytest.mark.speed
def test_attachments_and_their_ends(start, corpus):
    daemon = start(corpus[1], batch={"size": 2}, ring={"slots": 2})

    def work():
        feed = seqfeed.attach("train", socket=daemon.socket)
        kept = next(feed)["tokens"].numpy()  # the slot and the mapping outlive the feed
        feed.close()
        assert kept.size >= 0
        with pytest.raises(OSError):
            seqfeed.attach("nothing", socket=daemon.socket)
        with pytest.raises(TypeError):
            _seqfeed.attach(batch_class=int)

    settled(work, 60)


@pytest.mark.speed
@pytest.mark.parametrize("zero_copy", [False, True])
def test_tensors_of_torch(start, corpus, zero_copy):
    pytest.importorskip("torch", reason="no torch here (python3-torch)")
    import seqfeed.torch
    daemon = start(corpus[1], top={"cache": "auto"}, batch={"size": 2})
    loader = seqfeed.torch.Loader("train", socket=daemon.socket, zero_copy=zero_copy)

    def epochs():
        for _ in range(20):
            for batch in loader:
                assert batch["tokens"].numel() and batch.ledger.tokens

    def slowly():  # copied ahead, by a thread that comes and goes
        other = seqfeed.torch.Loader("train", socket=daemon.socket, zero_copy=zero_copy)
        for _, batch in zip(range(5), other):
            time.sleep(0.001)
            assert batch["tokens"].numel()
        seqfeed.torch.Loader(other.feed).close()

    settled(epochs, 2)
    settled(slowly, 30)


@pytest.mark.speed
def test_datasets_and_writers(tmp_path):
    rows = [{"tokens": [1, 2, 3] * 9, "label": 1, "spans": [1]}] * 300

    def work():
        seqfeed.pack(rows, tmp_path / "out", force=True, jobs=1)
        dataset = seqfeed.Dataset(tmp_path / "out")
        assert len(dataset[:50]) == 50 and dataset.columns
        with pytest.raises(TypeError):
            seqfeed.pack([[1], ["x"]], tmp_path / "never", token_type="u8", jobs=1)
        with pytest.raises(OSError):
            seqfeed.Dataset(tmp_path / "never")

    settled(work, 25)
