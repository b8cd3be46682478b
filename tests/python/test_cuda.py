# SPDX-License-Identifier: MIT
"""Copies to a GPU. The order of their steps is tried against a torch.cuda that is scripted: its copies
happen late, from whatever then stands in the buffer. On a real one the bytes are compared."""
import contextlib
import ctypes
import gc

import pytest
import seqfeed

torch = pytest.importorskip("torch", reason="no torch here (python3-torch)")

import seqfeed.torch  # noqa: E402  needs torch


class Machine:
    """A device whose copies take until `late` more have been asked for."""

    def __init__(self, late):
        self.late, self.events, self.waited, self.recorded = late, [], [], []
        self.inside = None  # the stream that work goes to
        self.copies = 0

    def to(self, tensor, device, non_blocking=False):
        assert str(device) == "cuda" and non_blocking and self.inside == "side"
        made = torch.full_like(tensor, 111)  # what stands there until the copy has happened
        # As a device does, it knows an address and keeps nothing alive.
        source = (ctypes.c_uint8 * tensor.numel()).from_address(tensor.data_ptr())
        self.events.append([made, source, False])
        self.copies += 1
        for event in self.events[:-self.late or None]:
            self.happen(event)
        return made

    @staticmethod
    def happen(event):
        if not event[2]:
            event[0].copy_(torch.frombuffer(event[1], dtype=torch.uint8))
            event[2] = True

    def wait(self, event):
        """The stream of the caller stands still until the copy is there."""
        self.waited.append(event)


@pytest.fixture
def machine(monkeypatch, request):
    scripted = Machine(request.param)

    class Event:
        def __init__(self):
            self.copy = None

        def record(self, stream):
            assert stream == "side"
            self.copy = scripted.events[-1]

        def query(self):
            return self.copy[2]

    class Current:
        wait_event = staticmethod(scripted.wait)

    @contextlib.contextmanager
    def stream(which):
        scripted.inside = which
        yield
        scripted.inside = None

    empty = torch.empty
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: "side")
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Current)
    monkeypatch.setattr(torch, "empty", lambda *shape, pin_memory=False, **more: empty(*shape, **more))
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *where, **more: scripted.to(self, *where, **more))
    monkeypatch.setattr(torch.Tensor, "record_stream",
                        lambda self, which: scripted.recorded.append(which), raising=False)
    return scripted


@pytest.mark.parametrize("machine", [0, 1, 3, 8], indirect=True)
def test_a_buffer_waits_for_its_copy(start, corpus, machine):
    daemon = start(corpus[1], batch={"size": 8}, ring={"slots": 2})
    wanted = [batch["tokens"].numpy().copy() for batch in seqfeed.attach("train", socket=daemon.socket)]
    loader = seqfeed.torch.Loader("train", socket=daemon.socket, device="cuda")
    seen = []
    for number, batch in enumerate(loader):
        # One copy a batch, which the stream of the caller waits for, and which it keeps alive.
        assert machine.copies == len(machine.waited) == len(machine.recorded) == number + 1
        assert machine.waited[-1].copy is machine.events[-1]
        seen.append(batch["tokens"])
    del batch
    for event in machine.events:
        machine.happen(event)
    assert len(seen) == len(wanted) == 26
    assert all((one.numpy() == other).all() for one, other in zip(seen, wanted))
    assert loader._maker.chunks <= machine.late + 3


@pytest.mark.parametrize("machine", [8], indirect=True)
def test_memory_outlives_a_loader_while_a_device_reads_it(start, corpus, machine):
    daemon = start(corpus[1], batch={"size": 8})
    wanted = [batch["tokens"].numpy().copy() for batch in seqfeed.attach("train", socket=daemon.socket)]
    seen = []
    for _ in range(3):  # each is gone with copies in flight, and the next one wants memory like theirs
        loader = seqfeed.torch.Loader("train", socket=daemon.socket, device="cuda")
        seen.append([batch["tokens"] for _, batch in zip(range(5), loader)])
        loader.close()
        del loader
        gc.collect()
        used = [torch.full((1 << number,), 99, dtype=torch.uint8) for number in range(8, 18) for _ in range(4)]
        del used
    for event in machine.events:
        machine.happen(event)
    for tokens in seen:
        assert all((one.numpy() == other).all() for one, other in zip(tokens, wanted))
    for _ in zip(range(1), seqfeed.torch.Loader("train", socket=daemon.socket, device="cuda")):
        assert not seqfeed.torch._left_flying  # those that have happened are let go of


@pytest.mark.parametrize("machine", [0], indirect=True)
def test_who_needs_no_device_does_not_begin_with_cuda(start, corpus, machine, monkeypatch):
    daemon = start(corpus[1], batch={"size": 8})
    asked, empty, in_use = [], torch.empty, [False]

    def record(*shape, pin_memory=False, **more):
        asked.append(pin_memory)
        return empty(*shape, **more)

    monkeypatch.setattr(torch, "empty", record)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: in_use[0])
    assert len(list(seqfeed.torch.Loader("train", socket=daemon.socket))) == 26 and not any(asked)
    in_use[0] = True
    assert len(list(seqfeed.torch.Loader("train", socket=daemon.socket))) == 26 and any(asked)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that this torch can use")
@pytest.mark.parametrize("tensors", ["seed", {
    "tokens": {"from": "tokens", "dtype": "int32"}, "mask": {"mask": "lengths"},
    "brain": {"mask": "lengths", "dtype": "bfloat16"}, "lengths": {"from": "lengths"}}], ids=["seed", "more"])
def test_on_a_device_it_is_the_same(start, corpus, tensors):
    daemon = start(corpus[1], batch={"size": 8}, tensors=tensors)
    here = list(seqfeed.torch.Loader("train", socket=daemon.socket))
    for epoch in range(2):
        there = list(seqfeed.torch.Loader("train", socket=daemon.socket, device="cuda"))
        for one, other in zip(here, there):
            for name in one:
                assert other[name].device.type == "cuda" and torch.equal(one[name], other[name].cpu()), name
    later = next(iter(seqfeed.torch.Loader("train", socket=daemon.socket)))
    assert all(each.is_pinned() for each in later.values())  # CUDA is in use
