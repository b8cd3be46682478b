# SPDX-License-Identifier: MIT
"""What the daemon and systemd say to each other, with a small systemd of our own."""
import contextlib
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import time

import harness
import pytest
import raw_client


@pytest.fixture
def config(tmp_path):
    dataset = harness.pack(tmp_path / "dataset", harness.random_rows(100, seed=3))
    return harness.one_feed(tmp_path / "c.yaml", dataset, batch={"size": 8})


HELLO = struct.pack("<IIIIII", raw_client.HELLO, 24, raw_client.MAGIC, 1, 1, 0)


def has_systemd():
    ran = subprocess.run([str(harness.DAEMON), "--version"], capture_output=True, text=True, check=False)
    return "systemd" in ran.stdout.split()


# Becomes the daemon with descriptor 3 as systemd would pass it.
LAUNCHER = ("import os, sys; os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid())); "
            "os.execv(sys.argv[1], sys.argv[1:])")


class ActivatedDaemon(harness.Daemon):
    def __init__(self, config, listening):
        self.listening = listening
        super().__init__(config, wait=False)

    def start(self, wait=True):
        words = [word for word in self.command if word not in ("--socket", str(self.socket))]

        def pass_socket():
            os.dup2(self.listening.fileno(), 3)

        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([sys.executable, "-c", LAUNCHER, *words], stdout=log,
                                            stderr=log, env=self.env, close_fds=False,
                                            preexec_fn=pass_socket)


def test_a_socket_of_systemds_is_used_as_it_is(config, tmp_path):
    if not has_systemd():
        pytest.skip("built without libsystemd")
    folder = pathlib.Path(f"/tmp/seqfeed-test-{os.getpid()}")
    folder.mkdir()
    path = folder / "s"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.bind(str(path))
            listening.listen(16)
            early = raw_client.Connection(path)  # waits in the backlog
            early.send(HELLO)
            for _ in range(2):
                daemon = ActivatedDaemon(config, listening)
                try:
                    if early:
                        assert early.receive()[0] == raw_client.HELLO_REPLY
                        early.close()
                        early = None
                    with raw_client.Trainer(path, "train") as trainer:
                        trainer.next()
                    inode = path.stat().st_ino
                    daemon.process.send_signal(signal.SIGTERM)
                    assert daemon.process.wait(10 * harness.PATIENCE) == 0, daemon.log
                    assert path.stat().st_ino == inode
                    assert os.listdir(folder) == ["s"]
                finally:
                    daemon.remove()
    finally:
        path.unlink()
        folder.rmdir()


def test_systemd_is_told_when_it_is_ready_alive_and_stopping(config, tmp_path):
    if not has_systemd():
        pytest.skip("built without libsystemd")
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(10 * harness.PATIENCE)
        with harness.Daemon(config, NOTIFY_SOCKET=path, WATCHDOG_USEC=200000) as daemon:
            said = manager.recv(4096).decode()
            assert said.splitlines()[0] == "READY=1"
            assert [manager.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            daemon.process.send_signal(signal.SIGSTOP)
            time.sleep(0.1)
            manager.settimeout(0.4)
            with pytest.raises(TimeoutError):
                for _ in range(100):
                    manager.recv(4096)
            daemon.process.send_signal(signal.SIGCONT)
            manager.settimeout(10 * harness.PATIENCE)
            assert manager.recv(4096) == b"WATCHDOG=1"
            daemon.stop()
            manager.settimeout(1)
            left = []
            with contextlib.suppress(TimeoutError):
                while True:
                    left.append(manager.recv(4096))
            assert b"STOPPING=1" in left


def read_messages(manager):
    """All that the manager has been told by now."""
    messages = []
    manager.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            messages.append(manager.recv(4096))
    return messages


def test_the_first_look_finds_nobody_dead(config, tmp_path):
    if not has_systemd():
        pytest.skip("built without libsystemd")
    for number in range(5):
        path = tmp_path / f"notify{number}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(path))
            manager.settimeout(10 * harness.PATIENCE)
            with harness.Daemon(config, NOTIFY_SOCKET=path, WATCHDOG_USEC=60_000_000) as daemon:
                assert manager.recv(4096).startswith(b"READY=1")
                assert manager.recv(4096) == b"WATCHDOG=1"
                daemon.stop()
                assert "gets on with nothing" not in daemon.log


# Reads that take 10 ms, as over a network, once the file is there.
SLOW_READS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>
ssize_t pread64(int fd, void *to, size_t size, off_t at);
ssize_t pread64(int fd, void *to, size_t size, off_t at) {
    ssize_t (*real)(int, void *, size_t, off_t) = dlsym(RTLD_NEXT, "pread64");
    if (access(getenv("SLOW_READS"), F_OK) == 0)
        usleep(10000);
    return real(fd, to, size, at);
}
"""


def slow_reads(folder):
    """The environment under which reads are slow, once its switch is there, and that switch."""
    if harness.SANITIZED:
        pytest.skip("a sanitizer wants to be loaded first")
    source, library, switch = (folder / name for name in ("slow.c", "slow.so", "on"))
    source.write_text(SLOW_READS)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return {"LD_PRELOAD": library, "SLOW_READS": switch}, switch


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_opens_its_feeds_from_slow_storage_ends_when_told(tmp_path, number):
    """Nobody reads signals in an event loop yet, and opening 700 shards takes many seconds."""
    slow, switch = slow_reads(tmp_path)
    switch.touch()
    dataset = harness.pack(tmp_path / "dataset", harness.random_rows(700, seed=4, longest=3000, shortest=2000),
                           "--block", "4KiB", "--shard", "4KiB", "--token-type", "u16")
    config = harness.one_feed(tmp_path / "c.yaml", dataset)
    daemon = harness.Daemon(config, wait=False, **slow)
    try:
        harness.wait_until(lambda: daemon.socket.with_name("s.lock").exists(), "the socket was not claimed")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_log("SIGHUP: the configuration is read at start only")
        assert not daemon.socket.exists() and daemon.process.poll() is None
        began = time.monotonic()
        daemon.process.send_signal(number)
        assert daemon.process.wait(10) == 0
        assert time.monotonic() - began < 1
        daemon.stop()  # which looks at what is left
        assert f"{number.name} from pid" in daemon.log
    finally:
        daemon.remove()
    checking = subprocess.Popen([str(harness.DAEMON), "--config", str(config), "--check"],
                                env=harness.environment(**slow))
    time.sleep(0.5)
    checking.send_signal(number)
    assert checking.wait(10) == -number


def test_a_long_count_is_no_hang_and_no_end_waits_for_it(tmp_path):
    if not has_systemd():
        pytest.skip("built without libsystemd")
    slow, switch = slow_reads(tmp_path)
    path = tmp_path / "notify"
    dataset = harness.pack(tmp_path / "dataset", harness.random_rows(40000, seed=4, longest=60), "--block", "4KiB")
    config = harness.one_feed(tmp_path / "c.yaml", dataset, top={"threads": 2},
                              batch={"policy": "tokens", "tokens": 1024})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        with harness.Daemon(config, NOTIFY_SOCKET=path, WATCHDOG_USEC=1_000_000, SEQFEED_FETCH="pread",
                            **slow) as daemon:
            switch.touch()
            waiting = [subprocess.Popen([str(harness.TOOL), "cat", "train", "-n", "1", "--seed", str(seed),
                                         "--socket", str(daemon.socket)], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL) for seed in (100, 101, 102)]
            read_messages(manager)
            time.sleep(2.5)
            assert all(trainer.poll() is None for trainer in waiting), "the count was over too soon"
            assert len(read_messages(manager)) >= 8
            assert "gets on with nothing" not in daemon.log
            began = time.monotonic()
            daemon.stop()
            assert time.monotonic() - began < 2
            assert [trainer.wait(10) for trainer in waiting] == [1, 1, 1]
