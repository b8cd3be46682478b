# SPDX-License-Identifier: MIT
"""Clients that do what they must not, and surroundings that give no help: the daemon stays, others
are served, nothing is left."""
import array
import contextlib
import errno
import json
import mmap
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import threading
import time

import harness
import pytest
import raw_client

NOBODY = 65534


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    rows = harness.random_rows(400, seed=3, longest=30)
    return harness.pack(tmp_path_factory.mktemp("hostile") / "dataset", rows, "--block", "4KiB")


@pytest.fixture
def config(tmp_path, dataset):
    return harness.one_feed(tmp_path / "c.yaml", dataset, batch={"size": 8})


@pytest.fixture
def daemon(config):
    with harness.Daemon(config) as running:
        yield running


def attach_in(daemon, seconds, **options):
    """An honest trainer gets its first batch in this time."""
    before = time.monotonic()
    with raw_client.Trainer(daemon.socket, "train", **options) as trainer:
        batch = trainer.next()
        took = time.monotonic() - before
    assert batch.index == 0 and took < seconds * harness.PATIENCE, f"{took:.3f} s"


def connect(daemon):
    return raw_client.Connection(daemon.socket)


def answer(connection):
    """What the daemon's last words are: the text of ERROR or CLOSING, or None when it just closed."""
    while True:
        try:
            kind, data, _ = connection.receive()
        except ConnectionResetError:
            return None
        if kind is None:
            return None
        if kind in (raw_client.ERROR, raw_client.CLOSING):
            return raw_client.text_of(raw_client.NOTICE_FORMAT.unpack(data)[4])


def settled_descriptors(daemon):
    """Open files of the daemon once nobody is connected any more and the last stream has been taken down."""
    def settled():
        status = daemon.status()
        return status["connections"] == 1 and status["memory"]["reserved"] == 0

    harness.wait_until(settled, "connections or streams remain")
    return daemon.descriptors()


# --- messages ------------------------------------------------------------------------------------

HELLO = struct.pack("<IIIIII", raw_client.HELLO, 24, raw_client.MAGIC, 1, 1, 0)
ATTACH = raw_client.attach_message("train")
REQUEST = struct.pack("<IIII", raw_client.REQUEST, 16, 1, 0)
MALFORMED = {
    "one byte": b"\1",
    "half a head": b"\1\0\0\0",
    "a wrong size": struct.pack("<II", raw_client.HELLO, 23) + bytes(16),
    "an unknown type": struct.pack("<II", 77, 24) + bytes(16),
    "a message of the daemon's": struct.pack("<II", raw_client.WELCOME, 56) + bytes(48),
    "reserved bytes": raw_client.attach_message("train", reserved=1),
    "unknown flags": raw_client.attach_message("train", flags=64),
    "a request with reserved bytes": struct.pack("<IIII", raw_client.REQUEST, 16, 1, 1),
    "4096 zeros": bytes(4096),
    "more than any message": bytes(60000),
}


@pytest.mark.parametrize("what", MALFORMED)
@pytest.mark.parametrize("state", ["fresh", "after HELLO", "waiting", "attached"])
def test_a_malformed_message_ends_that_connection_only(daemon, state, what):
    connection = connect(daemon)
    if state != "fresh":
        connection.hello()
    if state == "waiting":
        connection.send(raw_client.attach_message("train", group="g", world=2, local_ranks=2))
    if state == "attached":
        connection.send(ATTACH)
        for fd in connection.welcome()[1]:
            os.close(fd)
    connection.send(MALFORMED[what])
    if state == "attached" and what == "one byte":
        connection.socket.settimeout(0.3)  # which is a wake-up, and fine
        with pytest.raises(TimeoutError):
            connection.receive()
    else:
        assert answer(connection)
    connection.close()
    attach_in(daemon, 1)


@pytest.mark.parametrize("words", [
    [ATTACH], [REQUEST], [HELLO, HELLO], [HELLO, ATTACH, ATTACH], [HELLO, ATTACH, HELLO],
    [HELLO, ATTACH, REQUEST], [HELLO, REQUEST, HELLO]])
def test_a_message_at_the_wrong_time_ends_the_connection(daemon, words):
    connection = connect(daemon)
    for word in words:
        connection.send(word)
    assert answer(connection)
    connection.close()
    attach_in(daemon, 1)


@pytest.mark.parametrize("low, high", [(2, 3), (2, 0xFFFFFFFF), (0, 0)])
def test_another_version_is_refused_before_any_descriptor(daemon, low, high):
    connection = connect(daemon)
    with pytest.raises(raw_client.Refused, match="protocol 1, the client") as refused:
        connection.hello(low, high)
    assert refused.value.code == -errno.EPROTONOSUPPORT
    connection.close()


@pytest.mark.parametrize("name", ["../train", "/etc/passwd", "train\n", "a" * 64, "a/b", ".", "ümlaut"])
def test_a_feed_is_a_name_and_never_a_path(daemon, name):
    connection = connect(daemon)
    connection.hello()
    message = bytearray(ATTACH)
    message[8:72] = name.encode()[:64].ljust(64, b"\0")
    connection.send(message)
    assert answer(connection)
    connection.close()


def test_descriptors_are_never_taken(daemon):
    before = settled_descriptors(daemon)
    kept = []
    for size in (1, 100, 200):
        connection = connect(daemon)
        fds = array.array("i", [connection.socket.fileno()] * size)
        with contextlib.suppress(PermissionError):  # from Linux 6.16 on nobody can even send them
            connection.socket.sendmsg([HELLO], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
            assert "descriptors" in answer(connection)
        assert daemon.descriptors() <= before + 2 * (len(kept) + 1)
        kept.append(connection)
    for connection in kept:
        connection.close()
    assert settled_descriptors(daemon) == before


def test_more_messages_than_anyone_needs(daemon):
    connection = connect(daemon)
    connection.hello()
    with contextlib.suppress(OSError):
        for _ in range(1000):
            connection.send(REQUEST)
            connection.receive()
    assert connection.receive()[0] is None
    attach_in(daemon, 1)


# --- connections ---------------------------------------------------------------------------------

@pytest.mark.slow
def test_the_silent_are_closed_and_the_honest_served_meanwhile(daemon):
    silent = [connect(daemon) for _ in range(64)]
    for connection in silent[::2]:
        connection.hello()
    attach_in(daemon, 0.1)
    deadline = time.monotonic() + 12 * harness.PATIENCE
    for connection in silent:
        connection.socket.settimeout(max(0.1, deadline - time.monotonic()))
        assert re.search("10 s", answer(connection))
        connection.close()
    attach_in(daemon, 0.1)


def test_a_storm_of_connections(daemon):
    for _ in range(50):
        connect(daemon).close()
    before, resident = settled_descriptors(daemon), daemon.resident_bytes()
    stop = threading.Event()

    def storm():
        while not stop.is_set():
            with contextlib.suppress(OSError), \
                    socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
                one.connect(str(daemon.socket))
                one.send(HELLO[:count[0] % 24])
                count[0] += 1

    count = [0]
    thread = threading.Thread(target=storm)
    thread.start()
    try:
        for _ in range(5):  # by the C client, which waits where the backlog is full
            before_attach = time.monotonic()
            assert len(daemon.cat(n=1)) == 1
            assert time.monotonic() - before_attach < 2 * harness.PATIENCE
    finally:
        stop.set()
        thread.join()
    assert count[0] > 500
    assert settled_descriptors(daemon) <= before
    if not harness.SANITIZED:  # a sanitizer keeps what was freed
        assert daemon.resident_bytes() < resident + (4 << 20)
    assert len(daemon.log.splitlines()) < 100, "each of them may not write a line"


def test_client_bytes_cannot_forge_log_lines(daemon):
    with pytest.raises(raw_client.Refused):
        raw_client.Trainer(daemon.socket, "train", group="g\x1b[31m\x9b\nseqfeedd: forged", deadline=0.1)
    assert "forged\n" not in daemon.log and "\x1b" not in daemon.log and "\x9b" not in daemon.log


def test_a_share_of_the_connections_is_all_that_one_user_gets(config):
    with limited_daemon(config, 128) as daemon:
        held = []
        with contextlib.suppress(OSError):
            for _ in range(100):
                held.append(connect(daemon))
        refused = [connection for connection in held if is_over(connection, "connections")]
        assert refused and len(refused) < len(held)
        for connection in held:
            connection.close()
        attach_in(daemon, 1)


def is_over(connection, word):
    connection.socket.settimeout(0.05)
    try:
        return word in (answer(connection) or "")
    except TimeoutError:
        return False


class limited_daemon(harness.Daemon):
    """A daemon that may open so many files."""

    def __init__(self, config, files):
        self.files = files
        super().__init__(config)

    def start(self, wait=True):
        self.command = ["/bin/sh", "-c", f'ulimit -n {self.files}; exec "$0" "$@"', *self.command]
        super().start(wait)


def test_descriptors_that_run_out_do_not_make_it_spin(config):
    """The kernel's limit is lowered under the running daemon, so its own count does not help."""
    with harness.Daemon(config) as daemon:
        attach_in(daemon, 1)
        before = settled_descriptors(daemon)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (before + 4, 4096))
        held = [connect(daemon) for _ in range(20)]
        time.sleep(0.2)
        cpu, began = daemon.cpu_seconds(), time.monotonic()
        time.sleep(1)
        assert (daemon.cpu_seconds() - cpu) / (time.monotonic() - began) < 0.05 * harness.PATIENCE
        for connection in held:
            connection.close()
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (4096, 4096))
        attach_in(daemon, 2)
        assert len(re.findall("cannot accept", daemon.log)) < 30


def test_who_leaves_the_socket_to_a_child_is_still_gone(daemon):
    """The process that attached is the one that counts."""
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        trainer = raw_client.Trainer(daemon.socket, "train")
        trainer.next()
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        os.write(writer, str(child).encode())
        os._exit(0)
    os.close(writer)
    child = int(os.read(reader, 16))
    os.close(reader)
    os.waitpid(parent, 0)
    try:
        harness.wait_until(lambda: not daemon.status()["streams"], "the stream lives on")
    finally:
        os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)


# --- shared memory -------------------------------------------------------------------------------

@pytest.mark.parametrize("value", [9, 1000, 2 ** 63, 2 ** 64 - 1])
def test_a_released_count_beyond_head_disconnects(daemon, value):
    with raw_client.Trainer(daemon.socket, "train") as honest, \
            raw_client.Trainer(daemon.socket, "train") as liar:
        liar.next()
        harness.wait_until(lambda: liar.head == 8, "the ring never filled")
        liar.ack_words[0] = value
        liar.connection.send(b"\1")
        assert "out of range" in answer(liar.connection)
        for _ in range(20):
            honest.next()
            honest.release()
    assert "out of range" in daemon.log


def test_a_released_count_that_goes_back_disconnects(daemon):
    with raw_client.Trainer(daemon.socket, "train") as liar:
        for _ in range(4):
            liar.next()
        liar.release()
        harness.wait_until(lambda: liar.head > 8, "nothing was published after a release")
        liar.ack_words[0] = 1
        liar.connection.send(b"\1")
        assert "out of range" in answer(liar.connection)


def test_the_ring_can_only_be_read(daemon):
    with raw_client.Trainer(daemon.socket, "train") as trainer:
        trainer.next()
        path = f"/proc/self/fd/{trainer.data_fd}"
        for attempt in (
                lambda: mmap.mmap(trainer.data_fd, 4096, mmap.MAP_SHARED,
                                  mmap.PROT_READ | mmap.PROT_WRITE),
                lambda: os.pwrite(trainer.data_fd, b"x", 0),
                lambda: os.ftruncate(trainer.data_fd, 0),
                lambda: os.ftruncate(trainer.data_fd, trainer.ring_bytes * 2),
                lambda: os.ftruncate(trainer.ack_fd, 0),
                lambda: os.pwrite(os.open(path, os.O_RDWR), b"x", 0)):
            with pytest.raises(OSError):
                attempt()
        assert trainer.next().index == 1


# --- users ---------------------------------------------------------------------------------------

def as_user(uid, work):
    """Run work() in a child of another user; its text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            text = work()
        except BaseException as problem:  # pylint: disable=broad-except
            text = f"{type(problem).__name__}: {problem}"
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        text = said.read()
    os.waitpid(child, 0)
    return text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")
@pytest.mark.parametrize("allow, expected", [
    ({}, "Permission"), ({"users": [1]}, "EACCES"), ({"users": [NOBODY]}, "batch 0"),
    ({"groups": [NOBODY]}, "batch 0")])
def test_a_feed_is_for_its_own_user_and_whom_it_names(tmp_path, dataset, allow, expected):
    config = harness.one_feed(tmp_path / "c.yaml", dataset, allow=allow)

    def attach():
        with raw_client.Trainer(daemon.socket, "train") as trainer:
            return f"batch {trainer.next().index}"

    with harness.Daemon(config) as daemon:
        os.chmod(daemon.folder, 0o755)
        assert expected in as_user(NOBODY, attach)
        attach_in(daemon, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")
def test_others_see_their_own_streams_and_cannot_drain(tmp_path, dataset):
    config = harness.one_feed(tmp_path / "c.yaml", dataset, allow={"users": [NOBODY]})

    def look():
        connection = raw_client.Connection(daemon.socket)
        connection.hello()
        connection.send(REQUEST)
        _, data, _ = connection.receive()
        size = struct.unpack_from("<I", data, 12)[0]
        streams = len(json.loads(data[16:16 + size])["streams"])
        connection.send(struct.pack("<IIII", raw_client.REQUEST, 16, 3, 0))
        return f"{streams} streams, {answer(connection)}"

    with harness.Daemon(config) as daemon:
        os.chmod(daemon.folder, 0o755)
        with raw_client.Trainer(daemon.socket, "train"):
            said = as_user(NOBODY, look)
            assert said.startswith("0 streams, only the daemon's own user")
            assert len(daemon.status()["streams"]) == 1


# --- the socket's path ---------------------------------------------------------------------------

def test_of_daemons_started_at_once_one_lives(config):
    with harness.Daemon(config, wait=False) as first:
        others = [subprocess.Popen(first.command, stderr=subprocess.PIPE, text=True, env=first.env)
                  for _ in range(4)]
        everybody = [first.process, *others]
        harness.wait_until(lambda: sum(each.poll() is None for each in everybody) == 1,
                           "more than one lives")
        winner = next(each for each in everybody if each.returncode is None)
        assert all(each.returncode == 75 for each in everybody if each is not winner)
        first.process = winner
        first.wait_ready()
        attach_in(first, 1)
        first.stop()
        for each in others:
            each.stderr.close()


def test_a_stale_socket_is_replaced(config):
    with harness.Daemon(config) as daemon:
        daemon.kill()
        assert daemon.socket.exists()
        daemon.start(wait=False)
        harness.wait_until(daemon.listens, daemon.log)
        attach_in(daemon, 1)


def test_what_is_no_socket_is_not_overwritten(config):
    with harness.Daemon(config) as daemon:
        daemon.stop()
        daemon.socket.write_text("precious")
        daemon.start(wait=False)
        assert daemon.process.wait(20) == 1
        assert "is no socket" in daemon.log and daemon.socket.read_text() == "precious"
        daemon.socket.unlink()


def test_a_socket_that_is_no_longer_ours_stays(config):
    with harness.Daemon(config) as daemon:
        daemon.socket.unlink()
        daemon.socket.write_text("another's")
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(10 * harness.PATIENCE) == 0
        assert daemon.socket.read_text() == "another's"


def test_no_socket_before_every_feed_is_open(tmp_path, dataset):
    config = harness.write_config(tmp_path / "c.yaml", {"good": {"dataset": dataset},
                                                        "bad": {"dataset": tmp_path / "nowhere"}})
    with harness.Daemon(config, wait=False) as daemon:
        assert daemon.process.wait(20 * harness.PATIENCE) == 78
        assert os.listdir(daemon.folder) == ["log"]


def test_a_relative_path_and_a_long_one(config, tmp_path):
    ran = subprocess.run([str(harness.DAEMON), "--config", str(config), "--socket",
                          str(tmp_path / ("x" * 120))], capture_output=True, text=True, check=False,
                         env=harness.environment(), timeout=20 * harness.PATIENCE)
    assert ran.returncode == 1 and "107" in ran.stderr


# --- ending --------------------------------------------------------------------------------------

@pytest.mark.slow
def test_sigterm_with_trainers_that_do_not_leave(config):
    with harness.Daemon(config) as daemon, raw_client.Trainer(daemon.socket, "train") as trainer:
        trainer.next()
        before = time.monotonic()
        daemon.stop()
        assert time.monotonic() - before < 10
        assert trainer.state == raw_client.DRAIN


def test_a_second_sigterm_ends_it_at_once(config):
    with harness.Daemon(config) as daemon, raw_client.Trainer(daemon.socket, "train") as trainer:
        trainer.next()
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_log("draining")
        before = time.monotonic()
        daemon.stop()
        assert time.monotonic() - before < 3 * harness.PATIENCE


def test_sigterm_without_trainers_is_quick(config):
    with harness.Daemon(config) as daemon:
        attach_in(daemon, 1)
        before = time.monotonic()
        daemon.stop()
        assert time.monotonic() - before < 1.5 * harness.PATIENCE


def test_sighup_changes_nothing(daemon):
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_log("SIGHUP")
    attach_in(daemon, 1)
