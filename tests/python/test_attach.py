# SPDX-License-Identifier: MIT
"""Attaching, iterating, resuming, and what goes wrong."""
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time

import numpy
import pytest
import seqfeed
from seqfeed._attach import position


def tokens_of(feed, count=None):
    """(epoch, index, bytes of tokens) of the batches that follow."""
    seen = []
    for batch in feed:
        seen.append((batch.epoch, batch.index, batch["tokens"].numpy().tobytes()))
        if len(seen) == count:
            break
    return seen


def test_for_ends_with_the_epoch_and_goes_on_with_the_next(start, corpus):
    daemon = start(corpus[1], batch={"size": 16})
    feed = seqfeed.attach("train", socket=daemon.socket)
    first, second = tokens_of(feed), tokens_of(feed)
    assert len(first) == len(second) == len(feed) == 13
    assert {epoch for epoch, _, _ in first} == {0} and {epoch for epoch, _, _ in second} == {1}
    assert [each[2] for each in first] != [each[2] for each in second]
    assert len(tokens_of(feed, 5)) == 5
    assert [index for _, index, _ in tokens_of(feed)] == list(range(5, 13))  # after the break


def test_state_resumes_exactly_on_any_world(start, corpus):
    daemon = start(corpus[1], batch={"size": 8})
    feed = seqfeed.attach("train", socket=daemon.socket)
    everything = tokens_of(feed)
    feed = seqfeed.attach("train", socket=daemon.socket)
    assert feed.state_dict()["cursor"] == feed.cursor
    tokens_of(feed, 6)
    state = feed.state_dict()
    feed.close()
    assert tokens_of(seqfeed.attach("train", socket=daemon.socket, resume=state)) == everything[6:]
    ranks = [tokens_of(seqfeed.attach("train", socket=daemon.socket, rank=rank, world_size=2,
                                      resume=state["cursor"])) for rank in range(2)]
    assert [batch for pair in zip(*ranks) for batch in pair][:20] == everything[6:26]
    again = seqfeed.attach("train", socket=daemon.socket)
    tokens_of(again, 2)
    again.load_state_dict(state)
    assert len(again) == 20 and tokens_of(again) == everything[6:]


def test_what_is_no_state_is_called_so(start, corpus):
    daemon = start(corpus[1])
    with pytest.raises(ValueError, match=r"no state_dict\(\) of a feed.*'cursor'.*model"):
        seqfeed.attach("train", socket=daemon.socket, resume={"model": 1})
    with seqfeed.attach("train", socket=daemon.socket) as feed:
        before = next(feed).cursor
        with pytest.raises(ValueError, match=r"no state_dict\(\) of a feed"):
            feed.load_state_dict({})
        assert next(feed).cursor != before  # it goes on


def test_set_epoch(start, corpus):
    daemon = start(corpus[1], batch={"size": 64})
    feed = seqfeed.attach("train", socket=daemon.socket)
    feed.set_epoch(0)
    first = tokens_of(feed)
    second = tokens_of(feed)
    feed.set_epoch(0)
    assert tokens_of(feed) == first
    feed.set_epoch(1)  # it stands there
    assert tokens_of(feed) == second


def test_a_loop_that_counts_need_not_meet_the_end(start, corpus):
    daemon = start(corpus[1], batch={"size": 16})
    feed = seqfeed.attach("train", socket=daemon.socket)
    for epoch in range(3):
        seen = [(batch.epoch, batch.index) for _, batch in zip(range(13), feed)]
        assert seen == [(epoch, index) for index in range(13)]
    feed.next()  # the end itself
    assert [batch.index for batch in feed] == list(range(13))


def test_an_epoch_has_one_length_wherever_it_begins(start, corpus):
    daemon = start(corpus[1], batch={"size": 8})
    feed = seqfeed.attach("train", socket=daemon.socket)
    tokens_of(feed, 6)
    state = feed.state_dict()
    assert (len(feed), feed.epoch_length) == (26, 26)
    feed = seqfeed.attach("train", socket=daemon.socket, resume=state)
    assert (len(feed), feed.epoch_length) == (20, 26)
    tokens_of(feed, 3)
    assert (len(feed), feed.epoch_length) == (20, 26)
    tokens_of(feed)
    assert (len(feed), feed.epoch_length) == (26, 26)  # the next one
    half = seqfeed.attach("train", socket=daemon.socket, resume=state, rank=1, world_size=2)
    assert (len(half), half.epoch_length) == (10, 13)


@pytest.mark.parametrize("tail", ["repeat", "drop"])
def test_lengths_are_those_of_the_loops(start, corpus, tail):
    """On any world, wherever it begins: against a loop, and against the rule of docs/formats/plan.md."""
    daemon = start(corpus[1], batch={"size": 8, "tail": tail})
    batches = 26
    alone = seqfeed.attach("train", socket=daemon.socket)
    cursors = ["sf1;epoch=0"] + [batch.cursor for batch in alone][:-1]
    for world in (1, 3, 4, 5, 26):
        whole = batches // world if tail == "drop" else -(-batches // world)
        for index in range(batches):
            left = (batches - index) // world if tail == "drop" else -(-(batches - index) // world)
            rank = index % world
            feed = seqfeed.attach("train", socket=daemon.socket, resume=cursors[index], rank=rank, world_size=world)
            for epoch in range(2):
                expected = (left or whole if epoch == 0 else whole, whole)
                assert (len(feed), feed.epoch_length) == expected, (world, index, epoch)
                places = [(batch.epoch, batch.index) for batch in feed]
                assert len(places) == expected[0]
                begins = (epoch, index if epoch == 0 else 0) if left else (epoch + 1, 0)
                assert places[0] == (begins[0], begins[1] + rank)
            feed.close()


def test_lengths_of_who_joins(start, corpus):
    def take(feed, count):
        while count > 0:
            count -= feed.next(timeout=10) is not None

    daemon = start(corpus[1], batch={"size": 8}, ring={"slots": 4})
    cursor = None
    for begins in (0, 7, 20):  # so that epochs end soon after
        first = seqfeed.attach("train", socket=daemon.socket, group="g", members=1, resume=cursor)
        for taken in range(3):
            take(first, 3)
            joined = seqfeed.attach("train", socket=daemon.socket, group="g", join="next", timeout=10)
            here = None
            while here is None:
                try:
                    here = joined.next(timeout=0.1)
                except TimeoutError:
                    take(first, 1)  # makes room
            assert (len(joined), joined.epoch_length) == (26 - here.index, 26), (begins, taken)
            here.release()
            joined.close()
            assert (len(first), first.epoch_length) == (26 if first._epoch else 26 - begins, 26)
        first.close()
        alone = seqfeed.attach("train", socket=daemon.socket)
        tokens_of(alone, 7 if begins == 0 else 20)
        cursor = alone.cursor
        alone.close()


def test_the_epoch_of_a_loader_that_has_no_round_left(start, corpus):
    daemon = start(corpus[1], batch={"size": 8, "tail": "drop"})
    alone = seqfeed.attach("train", socket=daemon.socket)
    tokens_of(alone, 24)
    feed = seqfeed.attach("train", socket=daemon.socket, resume=alone.state_dict(), rank=0, world_size=4)
    assert position(feed.cursor) == (1, 0)


def test_an_attachment_stays_in_its_process(start, corpus):
    daemon = start(corpus[1], batch={"size": 8})
    with pytest.raises(TypeError, match="attach in the other one"):
        pickle.dumps(seqfeed.attach("train", socket=daemon.socket))


def test_two_attachments_and_their_threads(start, corpus):
    """Each goes its own way, and batches may be let go by any thread."""
    daemon = start(corpus[1], batch={"size": 8}, ring={"slots": 4})
    wanted = tokens_of(seqfeed.attach("train", socket=daemon.socket))
    feeds = [seqfeed.attach("train", socket=daemon.socket) for _ in range(2)]
    seen, waiting = [[], []], queue.Queue(2)

    def take(number):
        for batch in feeds[number]:
            seen[number].append((batch.epoch, batch.index, batch["tokens"].numpy().tobytes()))
            waiting.put(batch)

    def let_go():
        while waiting.get() is not None:
            pass

    threads = [threading.Thread(target=take, args=(number,)) for number in range(2)]
    other = threading.Thread(target=let_go)
    for thread in (*threads, other):
        thread.start()
    for thread in threads:
        thread.join()
    waiting.put(None)
    other.join()
    assert seen == [wanted, wanted]


def test_one_thread_at_a_time(start, corpus):
    daemon = start(corpus[1], batch={"size": 8})
    feed = seqfeed.attach("train", socket=daemon.socket)
    os.kill(daemon.pid, signal.SIGSTOP)  # what is published comes, and then nothing
    waiting = threading.Thread(target=lambda: waits(feed))
    try:
        waiting.start()
        time.sleep(0.5)
        with pytest.raises(RuntimeError, match="another thread waits on this attachment"):
            feed.next(timeout=0)
        with pytest.raises(RuntimeError, match="another thread waits"):
            feed.close()
        waiting.join()
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    assert next(feed) is not None


def waits(feed):
    with pytest.raises(TimeoutError):
        while True:
            feed.next(timeout=1.5)


def test_a_daemon_that_comes_back_is_found(start, corpus, capfd):
    daemon = start(corpus[1], batch={"size": 8})
    everything = tokens_of(seqfeed.attach("train", socket=daemon.socket))
    feed = seqfeed.attach("train", socket=daemon.socket)
    seen = tokens_of(feed, 4)
    daemon.kill()
    threading.Timer(0.3, daemon.start, kwargs={"wait": False}).start()
    seen += tokens_of(feed)
    assert seen == everything and len(feed) == len(everything)
    assert "waiting for another" in capfd.readouterr().err
    daemon.wait_ready()


def test_time_outs_and_refusals(start, corpus, tmp_path):
    with pytest.raises(ConnectionRefusedError, match="no daemon at"):
        seqfeed.attach("train", socket=tmp_path / "nothing")
    daemon = start(corpus[1], batch={"size": 8})
    with pytest.raises(OSError, match="nothing"):
        seqfeed.attach("nothing", socket=daemon.socket)
    with pytest.raises(TimeoutError, match="rank 1|member"):
        seqfeed.attach("train", socket=daemon.socket, rank=0, world_size=2, local_world_size=2,
                       group="g", members=1, timeout=0.3)
    state = seqfeed.attach("train", socket=daemon.socket).state_dict()
    other = start(corpus[1], batch={"size": 4})
    with pytest.raises(seqfeed.CursorError, match="batch"):
        seqfeed.attach("train", socket=other.socket, resume=state)
    with pytest.raises(ValueError, match="exclude"):
        seqfeed.attach("train", socket=daemon.socket, resume=state, join="next")
    with pytest.raises(ValueError, match="closed"):
        feed = seqfeed.attach("train", socket=daemon.socket)
        feed.close()
        next(feed)


def test_who_waits_for_a_group_learns_of_the_others(start, corpus, pair):
    """Who is there, who asked for something else, that it is full and runs; and who holds the slots."""
    daemon = start(corpus[1], batch={"size": 8}, ring={"slots": 2})
    with pytest.raises(TimeoutError, match=rf"2 of 3 members of rank 0 \(never attached; here: pid {os.getpid()}\)"):
        seqfeed.attach("train", socket=daemon.socket, group="g", members=3, timeout=0.3)
    fast, slow = pair(seqfeed.attach, daemon)
    with pytest.raises(TimeoutError, match=r"group g is full and runs: pid \d+, pid \d+ \(join: next joins it\)"):
        seqfeed.attach("train", socket=daemon.socket, group="g", members=2, timeout=0.3)
    with pytest.raises(TimeoutError, match="group g with world 1, not 2 runs: pid"):
        seqfeed.attach("train", socket=daemon.socket, group="g", members=2, rank=0, world_size=2, timeout=0.3)
    for _ in range(2):
        fast.next().release()
    with pytest.raises(TimeoutError, match="this process is member [01] of its ring, and member [01] has yet"):
        fast.next(1)
    slow.close()
    assert fast.next(10).index == 2


def test_arguments_are_named(start, corpus):
    daemon = start(corpus[1], batch={"size": 8})
    for name, value, error in (("rank", "1", TypeError), ("world_size", 1.5, TypeError), ("seed", -1, ValueError),
                               ("seed", 1 << 64, ValueError), ("members", 1 << 33, ValueError),
                               ("members", 0, ValueError), ("local_world_size", [], TypeError),
                               ("timeout", -1, ValueError), ("timeout", float("nan"), ValueError),
                               ("timeout", None, TypeError)):
        with pytest.raises(error, match=f"^{name} must be .*not "):
            seqfeed.attach("train", socket=daemon.socket, **{"group": "g", name: value})
    with pytest.raises(TypeError, match="^feed: the name of a feed"):
        seqfeed.attach(seqfeed.Dataset(corpus[1]))
    seqfeed.attach("train", socket=daemon.socket, rank=numpy.int64(0), world_size=numpy.int64(1), timeout=0).close()
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        seqfeed.attach("train", socket=daemon.socket, group="g", members=2, timeout=0)  # one try
    assert time.monotonic() - begun < 5


def test_members_share_batches(start, corpus):
    daemon = start(corpus[1], batch={"size": 16})
    seen = [[], []]

    def work(number):
        feed = seqfeed.attach("train", socket=daemon.socket, group="sweep", members=2)
        seen[number] = tokens_of(feed)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen[0] == seen[1] and len(seen[0]) == 13


def test_a_drain_is_no_end_of_epoch(start, corpus):
    daemon = start(corpus[1], batch={"size": 8})
    feed = seqfeed.attach("train", socket=daemon.socket)
    next(feed)
    daemon.tool("drain")
    with pytest.raises(seqfeed.Drained, match="draining"):
        for _ in range(1000):
            if feed.next(timeout=10) is None:
                raise AssertionError("an epoch's end")


def stuck(daemon, **more):
    """A program that waits on the feed; prints a line when it begins to."""
    code = ("import seqfeed, sys\n"
            f"print('waits', flush=True)\n"
            f"feed = seqfeed.attach('train', socket={str(daemon.socket)!r}, **{more!r})\n"
            "while True: next(feed, None)\n")
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                            stderr=subprocess.PIPE)


@pytest.mark.parametrize("more", [
    {"group": "g", "members": 2},  # waits in attach
    {}], ids=["attach", "next"])
def test_ctrl_c_is_answered(start, corpus, more):
    daemon = start(corpus[1], batch={"size": 8})
    if not more:
        os.kill(daemon.pid, signal.SIGCONT)
    program = stuck(daemon, **more)
    program.stdout.readline()
    time.sleep(0.7)
    if not more:
        os.kill(daemon.pid, signal.SIGSTOP)  # no batch will come
        time.sleep(0.3)
    try:
        begun = time.monotonic()
        program.send_signal(signal.SIGINT)
        said = program.communicate(timeout=10)[1]
        assert time.monotonic() - begun < 2
        assert "KeyboardInterrupt" in said, said
    finally:
        os.kill(daemon.pid, signal.SIGCONT)


def test_a_fork_leaves_the_parent_alone(start, corpus):
    daemon = start(corpus[1], batch={"size": 8})
    feed = seqfeed.attach("train", socket=daemon.socket)
    first = next(feed)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            next(feed)
        except ChildProcessError as error:
            code = 0 if "forked" in str(error) else 2
        finally:
            del first, feed
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert first["tokens"].numpy().size
    del first
    assert len(tokens_of(feed)) == 25


def test_waiting_gives_the_lock_away(start, corpus):
    daemon = start(corpus[1], batch={"size": 8}, ring={"slots": 2})
    feed = seqfeed.attach("train", socket=daemon.socket)
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        counted, running = [0], [True]

        def count():
            while running[0]:
                counted[0] += 1
                time.sleep(0.001)

        thread = threading.Thread(target=count)
        thread.start()
        with pytest.raises(TimeoutError):
            while True:
                feed.next(timeout=0.3)
        running[0] = False
        thread.join()
        assert counted[0] > 20
    finally:
        os.kill(daemon.pid, signal.SIGCONT)


@pytest.mark.speed
def test_python_adds_little(start, corpus):
    """Over the C client, which needs a few microseconds itself; the best of some runs."""
    daemon = start(corpus[1], batch={"size": 2}, top={"cache": "auto"})
    feed = seqfeed.attach("train", socket=daemon.socket)
    best = 1.0
    for _ in range(20):
        taken = []
        for batch in feed:
            begun = time.perf_counter()
            tokens, mask = batch["tokens"].numpy(), batch["mask"].numpy()
            taken.append(time.perf_counter() - begun)
            del tokens, mask
        best = min(best, float(numpy.median(taken)))
    assert best < 20e-6, f"{best * 1e6:.1f} us for two tensors"
