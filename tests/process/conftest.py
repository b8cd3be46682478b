# SPDX-License-Identifier: MIT
import harness
import pytest


@pytest.fixture(scope="session", autouse=True)
def programs():
    harness.require_programs()
    harness.adopt_orphans()
    harness.usual_signals()


@pytest.fixture(autouse=True)
def no_process_is_left():
    with harness.nothing_left_running():
        yield


@pytest.fixture
def start_daemon():
    """start_daemon(CONFIG, ...) -> Daemon; all are stopped in order at the end of the test."""
    started = []

    def start(*arguments, **options):
        started.append(harness.Daemon(*arguments, **options))
        return started[-1]

    yield start
    try:
        for daemon in started:
            if daemon.process.returncode is None:
                daemon.stop()
    finally:
        for daemon in started:
            daemon.remove()
