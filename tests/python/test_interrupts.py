# SPDX-License-Identifier: MIT
"""Whatever interrupts a call, a signal, missing memory, a device that refuses: nothing is lost, the next
call gets the batch."""
import os
import signal
import threading
import time

import pytest
import seqfeed

try:
    import torch
    import seqfeed.torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="no torch here (python3-torch)")


class Alarm(Exception):
    """Raised by the handler of a signal."""


@pytest.fixture
def alarm():
    """SIGUSR1 raises Alarm in the main thread."""
    def handler(*_):
        raise Alarm

    before = signal.signal(signal.SIGUSR1, handler)
    yield
    signal.signal(signal.SIGUSR1, before)


WAYS = {"feed": lambda feed: feed, "copies": lambda feed: seqfeed.torch.Loader(feed),
        "views": lambda feed: seqfeed.torch.Loader(feed, zero_copy=True),
        "moved": lambda feed: seqfeed.torch.Loader(feed, device="meta")}


@pytest.mark.parametrize("way", ["feed", *(pytest.param(way, marks=needs_torch) for way in WAYS if way != "feed")])
def test_a_signal_while_a_batch_is_waited_for(start, corpus, alarm, pair, way):
    # There is one slot, so the second member holds the first one up.
    feed, other = pair(seqfeed.attach, start(corpus[1], batch={"size": 8}, ring={"slots": 1}))
    source = WAYS[way](feed)
    iterator = iter(source)
    first = next(iterator)
    cursor = first.cursor
    del first

    def interrupt():
        time.sleep(0.55)
        os.kill(os.getpid(), signal.SIGUSR1)  # noticed within 0.1 s, and before that
        time.sleep(0.03)
        other.next()                          # the second batch can come

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Alarm):
        next(iterator)
    thread.join()
    assert source.state_dict()["cursor"] == cursor
    assert next(iterator).index == 1
    assert source.state_dict()["cursor"] != cursor


@needs_torch
def test_a_signal_during_a_large_copy(start, tmp_path):
    """It gives the interpreter's lock away, so the handler is due when it ends."""
    seqfeed.pack([[1] * 60000] * 400, tmp_path / "large")
    daemon = start(tmp_path / "large", batch={"size": 8})
    loader = seqfeed.torch.Loader("train", socket=daemon.socket)
    seen, alarms, running = [], 0, [True]

    def handler(_, frame):
        if frame.f_code.co_filename == seqfeed.torch.__file__:  # not in this function's own lines
            raise Alarm

    def interrupt():
        while running[0]:
            time.sleep(0.002)
            os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        iterator = iter(loader)
        while len(seen) < 45:
            try:
                seen.append(next(iterator).index)
            except Alarm:
                alarms += 1
    finally:
        running[0] = False
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    assert alarms > 3 and seen == sorted(set(seen))
    # Of a signal in the few instructions after it was looked for the last time nobody can know.
    assert seen[-1] + 1 - len(seen) <= 1


@needs_torch
@pytest.mark.parametrize("evaluate", [False, True])
def test_a_device_that_refuses(start, corpus, monkeypatch, evaluate):
    loader = seqfeed.torch.Loader("train", socket=start(corpus[1], batch={"size": 8}).socket, device="meta",
                                  evaluate=evaluate)

    def refused():
        with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="none left"):
            patched.setattr(torch.Tensor, "to", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("none left")))
            next(iter(loader))

    refused()
    loader.set_epoch(0)
    assert [batch.index for batch in loader] == list(range(26))
    if evaluate:
        return
    assert loader.epoch == 1
    iterator = iter(loader)
    seen = [next(iterator).index for _ in range(25)]
    refused()  # the last one of the epoch
    assert loader.epoch == 1 and seen + [batch.index for batch in loader] == list(range(26))
    assert loader.epoch == 2


def test_no_memory_for_the_object(start, corpus):
    testing = pytest.importorskip("_testcapi", reason="this Python has no _testcapi")
    feed = seqfeed.attach("train", socket=start(corpus[1], batch={"size": 8}).socket)
    seen, refused = [], 0
    while len(seen) < 12:
        testing.set_nomemory(refused % 4, refused % 4 + 1)
        try:
            batch = feed.next()
        except MemoryError:
            refused += 1
            continue
        finally:
            testing.remove_mem_hooks()
        seen.append(batch.index)
        del batch
        refused += 1
    assert seen == list(range(12)) and refused > 12


@pytest.mark.parametrize("seat", [{"members": 2}, {"rank": 0, "world_size": 2, "local_world_size": 2, "members": 1}],
                         ids=["members", "ranks"])
def test_an_attach_that_was_interrupted_has_no_seat(start, corpus, alarm, seat):
    """Else its thread would be taken for one of those who are waited for, or have the place of the next try."""
    daemon = start(corpus[1], batch={"size": 8})
    begun = time.monotonic()
    for _ in range(2):
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(Alarm) as raised:
            seqfeed.attach("train", socket=daemon.socket, group="pair", timeout=20, **seat)
        assert raised.value.__traceback__  # which keeps all that its frames had
    assert time.monotonic() - begun < 3
    with pytest.raises(TimeoutError, match="1 of 2|rank 1"):
        seqfeed.attach("train", socket=daemon.socket, group="pair", timeout=0.5, **seat)
    feeds = []

    def attach(**more):
        feeds.append(seqfeed.attach("train", socket=daemon.socket, group="pair", timeout=20, **{**seat, **more}))

    other = threading.Thread(target=attach, kwargs={"rank": 1} if "rank" in seat else {})
    other.start()
    attach()
    other.join()
    assert sorted(next(feed).index for feed in feeds) == ([0, 1] if "rank" in seat else [0, 0])
