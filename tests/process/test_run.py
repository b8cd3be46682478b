# SPDX-License-Identifier: MIT
"""`seqfeed run`: a daemon for as long as one command runs, whatever ends it."""
import os
import pathlib
import pty
import select
import signal
import subprocess
import termios

import harness
import pytest


@pytest.fixture
def config(tmp_path):
    dataset = harness.pack(tmp_path / "dataset", harness.CANONICAL)
    return harness.one_feed(tmp_path / "c.yaml", dataset)


@pytest.fixture
def folder(tmp_path):
    """Where `run` keeps its things; empty at the end."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


def run(config, *command, folder, check=False, **env):
    return harness.tool("run", config, "--", *command, check=check,
                        env=harness.environment(TMPDIR=folder, **env))


def start(config, *command, folder, **env):
    return subprocess.Popen([str(harness.TOOL), "run", str(config), "--", *map(str, command)],
                            env=harness.environment(TMPDIR=folder, **env), text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def children(pid):
    """Pids by program name."""
    found = {}
    for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found[pathlib.Path(f"/proc/{child}/comm").read_text().strip()] = int(child)
    return found


def test_the_command_finds_the_daemon_and_the_folder_is_private(config, folder):
    ran = run(config, "/bin/sh", "-c", 'stat -c %a "$(dirname "$SEQFEED_SOCKET")"; '
              f"{harness.TOOL} cat train --json | wc -l", folder=folder)
    assert ran.returncode == 0
    assert ran.stdout.split() == ["700", "1"]


def test_set_changes_the_configuration(config, folder):
    """Before or behind the configuration, more than once, and never what comes after '--'."""
    words = ("--set", "feeds.train.batch.size=1", "--set", "feeds.train.order.shuffle=false")
    for before, behind in ((words, ()), ((), words), (words[:2], words[2:])):
        ran = harness.tool("run", *before, config, *behind, "--", harness.TOOL, "cat", "train", "--json",
                           env=harness.environment(TMPDIR=folder))
        assert len(ran.stdout.splitlines()) == len(harness.CANONICAL)
    ran = harness.tool("run", config, "--", "/bin/echo", "--set", "x", env=harness.environment(TMPDIR=folder))
    assert ran.stdout == "--set x\n"
    wrong = harness.tool("run", "--set", "feeds.train.sise=1", config, "--", "/bin/true", check=False,
                         env=harness.environment(TMPDIR=folder))
    assert wrong.returncode == 78 and "--set feeds.train.sise" in wrong.stderr
    assert harness.tool("run", config, "--set", check=False).returncode == 2
    ran = harness.tool("run", config, "/bin/echo", "--set", "feeds.train.batch.size=1", "-h",
                       env=harness.environment(TMPDIR=folder))
    assert ran.stdout == "--set feeds.train.batch.size=1 -h\n"  # of the command, also without '--'


def test_a_terminal_that_stops_the_background_does_not_stop_the_daemon(config, folder):
    """With `stty tostop` a process in the background that writes to the terminal is stopped."""
    pid, terminal = pty.fork()
    if pid == 0:
        settings = termios.tcgetattr(0)
        settings[3] |= termios.TOSTOP
        termios.tcsetattr(0, termios.TCSANOW, settings)
        os.execve(harness.TOOL, ["seqfeed", "run", str(config), "--", "/bin/echo", "hello"],
                  harness.environment(TMPDIR=folder))
    said = b""
    try:
        while True:
            assert select.select([terminal], [], [], 8 * harness.PATIENCE)[0], said
            said += os.read(terminal, 4096)
    except OSError:  # nobody has the terminal any more
        assert b"hello" in said and b"ready: " in said
    finally:
        os.kill(pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        os.close(terminal)


def test_standard_output_belongs_to_the_command(config, folder):
    ran = run(config, "/bin/echo", "hello", folder=folder)
    assert ran.stdout == "hello\n"


def test_standard_input_belongs_to_the_command(config, folder):
    ran = harness.tool("run", config, "--", "/bin/cat", input="words\n",
                       env=harness.environment(TMPDIR=folder))
    assert ran.stdout == "words\n"


def test_a_wrong_configuration_is_the_daemons_exit_code_and_sentence(config, folder):
    config.write_text("feeds: {train: {dataset: nowhere}}\n")
    ran = run(config, "/bin/echo", "hello", folder=folder)
    assert ran.returncode == 78
    assert ran.stdout == ""
    assert "c.yaml:1:" in ran.stderr


def test_a_command_that_a_signal_ended(config, folder):
    ran = run(config, "/bin/sh", "-c", "kill -KILL $$", folder=folder)
    assert ran.returncode == 128 + signal.SIGKILL


@pytest.mark.parametrize("command, code", [("no-such-program", 127), ("/dev/null", 126)])
def test_a_command_that_cannot_be_run(config, folder, command, code):
    ran = run(config, command, folder=folder)
    assert ran.returncode == code
    assert command in ran.stderr


def test_a_daemon_that_cannot_be_started(config, folder):
    ran = run(config, "/bin/echo", "hello", folder=folder, SEQFEED_DAEMON="/nowhere/seqfeedd")
    assert ran.returncode == 127
    assert "/nowhere/seqfeedd" in ran.stderr and ran.stdout == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_passed_to_the_command(config, folder, number):
    process = start(config, "/bin/sh", "-c",
                    "trap 'exit 9' TERM INT HUP; echo ready; while :; do sleep 0.05; done",
                    folder=folder)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    process.communicate(timeout=20 * harness.PATIENCE)
    assert process.returncode == 9


def test_the_daemon_dies_with_a_run_that_was_killed(config, tmp_path):
    folder = tmp_path / "killed"  # nobody is left to remove what is in it
    folder.mkdir()
    process = start(config, "/bin/sh", "-c", "echo ready; exec sleep 1000", folder=folder)
    assert process.stdout.readline() == "ready\n"
    found = children(process.pid)
    process.kill()
    process.wait()
    for name, pid in found.items():
        if name != "seqfeedd":
            os.kill(pid, signal.SIGKILL)
    process.communicate()
    harness.wait_until(lambda: found["seqfeedd"] not in harness.descendants(),
                       "the daemon is still there")


def test_the_death_of_the_daemon_is_said(config, folder):
    process = start(config, "/bin/sh", "-c", "echo ready; sleep 0.5; exit 5", folder=folder)
    assert process.stdout.readline() == "ready\n"
    os.kill(children(process.pid)["seqfeedd"], signal.SIGKILL)
    said = process.communicate(timeout=20 * harness.PATIENCE)[1]
    assert process.returncode == 5
    assert "the daemon has ended before the command" in said


@pytest.mark.parametrize("words", [[], ["c.yaml"], ["c.yaml", "--"], ["--what"], ["-x", "c.yaml"]])
def test_wrong_usage(words):
    ran = harness.tool("run", *words, check=False)
    assert ran.returncode == 2
    assert "seqfeed run" in ran.stderr
