# SPDX-License-Identifier: MIT
"""Copies that are made while the trainer works; skipped where torch cannot be imported. A trainer that
is slow enough gets them; what it sees is what a fast one sees."""
import copy
import gc
import os
import pathlib
import pickle
import random
import threading
import time
import weakref

import harness
import pytest
import seqfeed
from seqfeed import _seqfeed

torch = pytest.importorskip("torch", reason="no torch here (python3-torch)")

import seqfeed.torch  # noqa: E402  needs torch

STEP_S = 0.002


def helpers():
    """Threads of this process that copy ahead."""
    return [task for task in pathlib.Path("/proc/self/task").iterdir()
            if (task / "comm").read_text().strip() == "seqfeed-copy"]


def ready(loader):
    """Wait for the next copy to be there."""
    harness.wait_until(lambda: loader.feed._attachment.ready, "nothing is copied ahead")


def slow(loader, batches, until=None):
    """So many batches of a slow trainer, and then the next one is ready; the iterator."""
    iterator, seen = iter(loader), []
    for _ in range(batches):
        seen.append(next(iterator))
        time.sleep(STEP_S)
    assert seen
    ready(loader)
    return iterator, seen


def same(one, other):
    return (one.epoch, one.index, one.cursor, one.ledger) == (other.epoch, other.index, other.cursor, other.ledger) \
        and list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def everything(daemon, epochs=1, **options):
    loader = seqfeed.torch.Loader("train", socket=daemon.socket, **options)
    return [batch for _ in range(epochs) for batch in loader]


def test_a_slow_trainer_finds_them_ready(start, corpus):
    daemon = start(corpus[1], batch={"size": 8}, ring={"slots": 3})
    wanted = everything(daemon, 2)
    loader = seqfeed.torch.Loader("train", socket=daemon.socket)
    seen = []
    for _ in range(2):
        assert len(loader) == 26
        for batch in loader:
            seen.append(batch)
            time.sleep(STEP_S)
            if 5 < batch.index < 25:
                ready(loader)  # one batch ahead, and never over the end of an epoch
            elif batch.index == 25:
                assert not loader.feed._attachment.ready
    assert len(seen) == 52 and all(map(same, seen, wanted))  # all are kept: no copy is made over another
    assert loader.feed._attachment.copied_ahead >= 36
    helper, = helpers()
    assert os.sched_getscheduler(int(helper.name)) == os.SCHED_BATCH  # it takes no CPU from the trainer
    loader.close()
    assert not helpers()


def test_a_fast_trainer_copies_for_itself(start, corpus):
    daemon = start(corpus[1], batch={"size": 64})
    loader = seqfeed.torch.Loader("train", socket=daemon.socket, zero_copy=True)
    for batch in loader:
        del batch
        time.sleep(STEP_S)
    assert not helpers()  # nor is there anything to copy for views
    loader = seqfeed.torch.Loader("train", socket=daemon.socket)
    assert list(loader)
    assert loader.feed._attachment.copied_ahead == 0


@pytest.mark.parametrize("batches", [2, 9, 25])
def test_a_checkpoint_knows_nothing_of_what_is_only_ready(start, corpus, batches):
    daemon = start(corpus[1], batch={"size": 8})
    wanted = everything(daemon)
    loader = seqfeed.torch.Loader("train", socket=daemon.socket)
    iterator, seen = slow(loader, batches)
    state = pickle.loads(pickle.dumps(loader.state_dict()))
    assert state["cursor"] == seen[-1].cursor and len(loader) == 26 and loader.epoch == 0
    other = seqfeed.torch.Loader("train", socket=daemon.socket)
    other.load_state_dict(state)
    assert list(map(same, other, wanted[batches:])).count(True) == 26 - batches
    loader.load_state_dict(state)  # the same one: what was ready is forgotten
    assert list(map(same, loader, wanted[batches:])).count(True) == 26 - batches
    assert next(iter(loader)).epoch == 1


def test_after_a_kill_the_next_batch_is_exactly_the_next(start, corpus, capfd):
    daemon = start(corpus[1], batch={"size": 8})
    wanted = everything(daemon)
    loader = seqfeed.torch.Loader("train", socket=daemon.socket)
    iterator, seen = slow(loader, 5)
    daemon.kill()
    threading.Timer(0.3, daemon.start, kwargs={"wait": False}).start()
    assert loader.feed._attachment.ready
    for batch in iterator:
        seen.append(batch)
        time.sleep(STEP_S)
    assert len(seen) == 26 and all(map(same, seen, wanted))
    assert "waiting for another" in capfd.readouterr().err and len(loader) == 26
    daemon.wait_ready()


def test_a_kill_at_any_time(start, corpus):
    """Also while a copy is being made, or just asked for."""
    daemon = start(corpus[1], batch={"size": 8})
    wanted = everything(daemon)
    draw = random.Random(7)
    for _ in range(6):
        loader = seqfeed.torch.Loader("train", socket=daemon.socket)
        at, seen = draw.randrange(3, 20), []
        for batch in loader:
            seen.append(batch)
            time.sleep(STEP_S * draw.random())
            if len(seen) == at:
                daemon.kill()
                daemon.start()
        assert len(seen) == 26 and all(map(same, seen, wanted))
        loader.close()


def test_other_epochs_and_evaluation(start, corpus):
    daemon = start(corpus[1], batch={"size": 8})
    wanted = everything(daemon, 3)
    loader = seqfeed.torch.Loader("train", socket=daemon.socket)
    slow(loader, 4)
    loader.set_epoch(2)
    assert same(next(iter(loader)), wanted[52])
    slow(loader, 3)
    loader.set_epoch(2)  # stands in it: goes on
    assert same(next(iter(loader)), wanted[56])
    loader = seqfeed.torch.Loader("train", socket=daemon.socket, evaluate=True)
    for _ in range(2):
        _, seen = slow(loader, 5)
        assert all(map(same, seen, wanted[:5]))


def test_the_feed_itself_gives_what_is_ready(start, corpus):
    daemon = start(corpus[1], batch={"size": 8}, ring={"slots": 4}, tensors={
        "tokens": {"from": "tokens"}, "mask": {"mask": "lengths"}, "lengths": {"from": "lengths"}})
    wanted = everything(daemon)
    loader = seqfeed.torch.Loader("train", socket=daemon.socket)
    iterator, seen = slow(loader, 5)
    with next(loader.feed) as batch:
        assert batch.index == 5 and batch.ledger == wanted[5].ledger and batch.rows == 8
        for name, tensor in batch.items():
            assert (tensor.numpy() == wanted[5][name].numpy()).all() and not tensor.numpy().flags.writeable
    assert loader.state_dict()["cursor"] == wanted[5].cursor
    views = seqfeed.torch.Loader(loader.feed, zero_copy=True)
    slow(loader, 3)
    assert same(next(iter(views)), wanted[9])
    assert all(map(same, iterator, wanted[10:])) and loader.feed.next().epoch == 1


def test_held_slots_are_told_of_only_while_they_are_held(start, corpus):
    daemon = start(corpus[1], batch={"size": 8}, ring={"slots": 3})
    wanted = everything(daemon)
    loader = seqfeed.torch.Loader("train", socket=daemon.socket)
    iterator, _ = slow(loader, 4)
    held = [loader.feed.next() for _ in range(4)]  # the first is a copy and holds no slot
    with pytest.raises(BufferError, match="holds all 3 batches"):
        next(iterator)
    time.sleep(0.05)
    del held
    assert same(next(iterator), wanted[8])


def test_a_member_that_has_one_ready_holds_up_nobody(start, corpus, pair):
    daemon = start(corpus[1], batch={"size": 8}, ring={"slots": 3})
    one, other = pair(seqfeed.torch.Loader, daemon)
    slow(one, 2)
    # It has taken two, the third is copied, and no slot is held: three more are there for the other.
    assert [other.feed.next(timeout=20).index for _ in range(6)] == list(range(6))
    with pytest.raises(TimeoutError):
        other.feed.next(timeout=0.3)


def test_batches_that_outgrow_the_memory(start, tmp_path):
    rows = [[number] * (1 + 9 * number) for number in range(200)]
    seqfeed.pack([{"tokens": row} for row in rows], tmp_path / "grow")
    daemon = start(tmp_path / "grow", batch={"size": 2}, order={"shuffle": False})
    wanted = everything(daemon)
    loader = seqfeed.torch.Loader("train", socket=daemon.socket)
    number = 0
    for number, batch in enumerate(loader):
        assert same(batch, wanted[number])
        time.sleep(STEP_S / 2)
    assert number == 99 and loader._maker.chunks < 8


def test_a_trainer_that_stalls_does_not_keep_a_thread_busy(start, corpus):
    daemon = start(corpus[1], batch={"size": 8}, ring={"slots": 2})
    loader = seqfeed.torch.Loader("train", socket=daemon.socket)
    slow(loader, 3)
    task = helpers()[0]

    def used():
        return sum(map(int, (task / "stat").read_text().rsplit(")", 1)[1].split()[11:13]))

    before = used()
    time.sleep(0.5)
    assert used() - before <= 2  # hundredths of a second


def test_a_fork_while_copies_are_made(start, corpus):
    daemon = start(corpus[1], batch={"size": 8})
    wanted = everything(daemon)
    for pause in (0, 0.0002, 0.02):
        loader = seqfeed.torch.Loader("train", socket=daemon.socket)
        iterator, _ = slow(loader, 5)
        next(iterator)
        time.sleep(pause)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                next(iterator)
            except ChildProcessError as error:
                code = 0 if "forked" in str(error) else 2
            finally:
                del iterator, loader
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert all(map(same, iterator, wanted[6:]))


def test_to_leave_at_any_time(start, corpus):
    daemon = start(corpus[1], batch={"size": 8})
    draw = random.Random(3)
    kept = []
    for number in range(60):
        loader = seqfeed.torch.Loader("train", socket=daemon.socket)
        for _, batch in zip(range(3), loader):
            kept.append((batch["tokens"], batch["tokens"].clone()))
            time.sleep(STEP_S * draw.random())
        if number % 3 == 0:
            loader.close()
        elif number % 3 == 1:
            loader.load_state_dict(loader.state_dict())
        del loader, batch
        gc.collect()
    assert not helpers()
    assert all(torch.equal(one, other) for one, other in kept)  # they outlive the attachment
    with pytest.raises(ValueError, match="closed"):
        loader = seqfeed.torch.Loader("train", socket=daemon.socket)
        loader.close()
        next(iter(loader))


def test_no_memory_loses_no_batch(start, corpus):
    daemon = start(corpus[1], batch={"size": 8})
    wanted = everything(daemon)
    feed = seqfeed.attach("train", socket=daemon.socket)
    room = [2]

    def allocate(size):
        if room[0] == 0:
            raise MemoryError("none left")
        room[0] -= 1
        return bytearray(size)

    maker = _seqfeed.Maker(seqfeed.torch.TorchBatch, torch._C._from_dlpack, seqfeed.torch._boolean(), allocate, False)
    kept = []
    for number in range(10):
        room[0] = number % 2
        if room[0] == 0:
            with pytest.raises(MemoryError, match="none left"):
                feed._attachment.next_copies(maker, -1.0)
            room[0] = 1
        kept.append(feed._attachment.next_copies(maker, -1.0))
        time.sleep(STEP_S)
    assert all(map(same, kept, wanted)) and len(kept) == 10
    with pytest.raises(ValueError, match="smaller than was asked for"):
        kept[0] = feed._attachment.next_copies(_seqfeed.Maker(dict, torch._C._from_dlpack, None, lambda size: bytearray(1), False), 0.0)
    with pytest.raises(TypeError):
        feed._attachment.next_copies(None, -1.0)


def test_memory_goes_back_with_the_last_batch(start, corpus):
    """Not only when somebody else wants some: it may be pinned."""
    class Piece(bytearray):
        """Has weak references."""

    feed = seqfeed.attach("train", socket=start(corpus[1], batch={"size": 8}).socket)

    def allocate(size):
        piece = Piece(size)
        places.append(weakref.ref(piece))
        return piece

    places = []
    maker = _seqfeed.Maker(seqfeed.torch.TorchBatch, torch._C._from_dlpack, seqfeed.torch._boolean(), allocate, False)
    batches = [feed._attachment.next_copies(maker, -1.0) for _ in range(6)]
    feed.close()
    del maker, feed
    assert sum(place() is not None for place in places) >= 6
    last = batches.pop()["tokens"]
    del batches
    gc.collect()
    harness.wait_until(lambda: sum(place() is not None for place in places) == 1, "memory is kept")
    thread = threading.Thread(target=lambda held: held.clear(), args=([last],))  # on whatever thread
    del last
    thread.start()
    thread.join()
    del thread
    harness.wait_until(lambda: not any(place() for place in places), "memory is kept")


def test_ctrl_c_while_memory_is_made_is_heard(start, corpus):
    """The memory for the copy ahead as well: the batch that was to be handed out comes again."""
    daemon = start(corpus[1], batch={"size": 8})
    wanted = everything(daemon)
    feed = seqfeed.attach("train", socket=daemon.socket)
    asked = []

    def allocate(size):
        asked.append(size)
        if len(asked) % 2 == 0:
            raise KeyboardInterrupt
        return bytearray(size)

    maker = _seqfeed.Maker(seqfeed.torch.TorchBatch, torch._C._from_dlpack, seqfeed.torch._boolean(), allocate, False)
    kept, interrupts = [], 0
    while len(kept) < 12:
        before = len(asked)
        try:
            kept.append(feed._attachment.next_copies(maker, -1.0))
            assert not any(number % 2 == 0 for number in range(before + 1, len(asked) + 1))
        except KeyboardInterrupt:
            interrupts += 1
        time.sleep(STEP_S)
    assert interrupts == len(asked) // 2 > 3 and all(map(same, kept, wanted))


def test_what_could_not_be_moved_was_not_handed_out(start, corpus, monkeypatch):
    loader = seqfeed.torch.Loader("train", socket=start(corpus[1], batch={"size": 8}).socket, device="meta")
    iterator = iter(loader)
    assert next(iterator)["tokens"].is_meta
    state = loader.state_dict()
    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="none left"):
        patched.setattr(torch.Tensor, "to", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("none left")))
        next(iterator)
    assert loader.state_dict() == state and loader.feed._attachment.seen == 1
    loader.load_state_dict(state)
    assert [next(iterator).index for _ in range(2)] == [1, 2] and loader.state_dict() != state
    with pytest.raises(TypeError):
        loader.feed._attachment.note(None)


def test_a_batch_can_be_copied_and_pickled(start, corpus):
    daemon = start(corpus[1], batch={"size": 8})
    loader = seqfeed.torch.Loader("train", socket=daemon.socket)
    _, seen = slow(loader, 3)
    for batch in seen:
        for other in (pickle.loads(pickle.dumps(batch)), copy.deepcopy(batch), copy.copy(batch)):
            assert same(batch, other) and other.rows == 8 and other.real_tokens == batch.ledger.tokens
            assert not other.repeated
        with pytest.raises(AttributeError, match="nothing"):
            batch.nothing


def test_a_drain_is_told(start, corpus):
    daemon = start(corpus[1], batch={"size": 8})
    loader = seqfeed.torch.Loader("train", socket=daemon.socket)
    iterator, seen = slow(loader, 3)
    daemon.tool("drain")
    with pytest.raises(seqfeed.Drained):
        for batch in iterator:
            seen.append(batch)
            time.sleep(STEP_S)
    assert [batch.index for batch in seen] == list(range(len(seen)))
    assert loader.state_dict()["cursor"] == seen[-1].cursor


def test_one_thread_at_a_time(start, corpus):
    """Threads that take turns without asking each other: each batch once, or a RuntimeError."""
    daemon = start(corpus[1], batch={"size": 2})
    loader = seqfeed.torch.Loader("train", socket=daemon.socket)
    seen, lock = [], threading.Lock()

    def work():
        while True:
            try:
                batch = loader._next()
            except RuntimeError as error:
                assert "another thread" in str(error)
                continue
            if batch is None or batch.epoch > 0:
                return
            with lock:
                seen.append(batch.index)
            time.sleep(STEP_S / 4)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(102))
