# SPDX-License-Identifier: MIT
"""An attachment that was lost, because the daemon has gone or another place was not to be had, is
attached anew by the next call: only close() ends it."""
import os
import signal
import threading
import time

import harness
import pytest
import seqfeed


class Alarm(Exception):
    """Raised by the handler of a signal."""


def take_all(feed):
    """Batches until there is none or an exception."""
    seen = []
    try:
        while True:
            seen.append(feed.next().index)
    except Exception as error:
        return seen, error


def test_an_interrupt_while_no_daemon_is_there(start, corpus):
    daemon = start(corpus[1], batch={"size": 8})
    feed = seqfeed.attach("train", socket=daemon.socket, timeout=30)
    daemon.kill()

    def handler(*_):
        raise Alarm

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.4)
    seen, error = take_all(feed)
    signal.signal(signal.SIGALRM, before)
    assert isinstance(error, Alarm), error
    daemon.start()
    assert seen + [batch.index for batch in feed] == list(range(26))
    feed.close()
    with pytest.raises(ValueError, match="closed"):
        feed.next()


def test_none_came_back_and_later_one_did(start, corpus):
    daemon = start(corpus[1], batch={"size": 8})
    feed = seqfeed.attach("train", socket=daemon.socket, timeout=0.3)
    daemon.kill()
    seen, error = take_all(feed)
    for _ in range(2):
        assert isinstance(error, ConnectionRefusedError), error
        error = take_all(feed)[1]
    daemon.start()
    assert len(feed) == 26
    assert seen + [batch.index for batch in feed] == list(range(26))


def test_a_time_out_holds_without_a_daemon(start, corpus, capfd):
    daemon = start(corpus[1], batch={"size": 8})
    feed = seqfeed.attach("train", socket=daemon.socket, timeout=8)
    seen = [feed.next(timeout=5).index]
    daemon.kill()
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match="daemon is gone"):
        while True:
            seen.append(feed.next(timeout=0.4).index)
    with pytest.raises(TimeoutError, match="daemon is gone"):
        feed.next(timeout=0)
    assert time.monotonic() - begun < 4
    assert capfd.readouterr().err.count("waiting for another") == 1
    daemon.start()
    assert seen + [batch.index for batch in feed] == list(range(26))


def test_a_length_is_asked_of_the_next_daemon(start, corpus):
    daemon = start(corpus[1], batch={"size": 8}, ring={"slots": 1})
    feed = seqfeed.attach("train", socket=daemon.socket)
    for _ in range(26):
        held = None
        held = feed.next()  # so that the next epoch's first is not there yet
    assert held.index == 25 and feed.next() is None
    daemon.kill()
    del held
    daemon.start()
    assert len(feed) == 26


def test_a_place_that_is_not_to_be_had(start, corpus):
    daemon, other = start(corpus[1], batch={"size": 8}), start(corpus[1], batch={"size": 4})
    strange = seqfeed.attach("train", socket=other.socket).state_dict()
    feed = seqfeed.attach("train", socket=daemon.socket)
    seen = [next(feed).index for _ in range(3)]
    state = feed.state_dict()
    with pytest.raises(seqfeed.CursorError, match="batch") as raised:
        feed.load_state_dict(strange)
    assert any("stands where it did" in note for note in raised.value.__notes__)
    assert feed.state_dict() == state
    seen.append(next(feed).index)
    for wrong, error, said in ((-1, ValueError, "epoch must be a whole number from 0 on, not -1"),
                               ("1", TypeError, "epoch must be a whole number from 0 on, not '1'")):
        with pytest.raises(error, match=said):
            feed.set_epoch(wrong)
    for wrong, error in (({"cursor": None}, ValueError), (None, TypeError), ([state["cursor"]], TypeError),
                         ("nonsense", ValueError), ("sf1;epoch=none", ValueError)):
        with pytest.raises(error):
            feed.load_state_dict(wrong)
        seen.append(next(feed).index)
    assert seen == list(range(9))
    feed.load_state_dict(state["cursor"])
    assert next(feed).index == 3


def test_a_forked_child_closes_what_a_thread_waits_for(start, corpus):
    daemon = start(corpus[1], batch={"size": 8})
    feed = seqfeed.attach("train", socket=daemon.socket)
    os.kill(daemon.pid, signal.SIGSTOP)
    waiting = threading.Thread(target=take_all, args=(feed,))
    waiting.start()
    time.sleep(0.5)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            feed.close()
            code = 0
        finally:
            os._exit(code)
    os.kill(daemon.pid, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    daemon.tool("drain")  # ends the wait
    harness.wait_until(lambda: not waiting.is_alive(), "the thread waits for ever")


def test_a_private_daemon_does_not_last_as_long_as_a_forked_child(corpus):
    daemon = seqfeed.Daemon({"feeds": {"train": {"dataset": corpus[1]}}})
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        begun = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - begun < 5
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
