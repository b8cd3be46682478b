# SPDX-License-Identifier: MIT
"""./dev demo shows the main job, ends by itself, and leaves nothing behind, however it ends."""
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

import harness
import pytest

DEMO = [sys.executable, str(harness.ROOT / "examples/demo.py"), "--build", str(harness.BUILD)]

pytestmark = pytest.mark.skipif(not pathlib.Path("/usr/share/common-licenses").is_dir(),
                                reason="no /usr/share/common-licenses: this is no Debian")


@pytest.fixture
def scratch():
    """A folder that holds all that the demo makes; it must be empty in the end."""
    with tempfile.TemporaryDirectory(prefix="seqfeed-") as folder:
        yield folder
        assert os.listdir(folder) == []


def start(scratch, *words):
    return subprocess.Popen([*DEMO, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=harness.environment(TMPDIR=scratch, PYTHONUNBUFFERED=1),
                            start_new_session=True)


def test_the_demo_shows_the_main_job(scratch):
    demo = start(scratch, "--seconds", "2")
    out, said = demo.communicate(timeout=60 * harness.PATIENCE)
    assert demo.returncode == 0, said
    assert "fetch: " in out and "masks: " in out
    assert re.search(r"first batch: tokens int64 8 x \d+, mask bool 8 x \d+, labels, lengths", out)
    assert "GPL" in out and "sf1;" in out
    assert float(re.search(r"([\d.]+) M tokens/s", out).group(1)) > 0
    assert "To go on" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("line", ["1.", "2.", "3.", "4."])
def test_interrupted_anywhere_it_leaves_nothing(scratch, number, line):
    """As a terminal does it: the signal goes to the whole group of processes."""
    demo = start(scratch, "--seconds", "30")
    for text in demo.stdout:
        if text.startswith(line):
            break
    time.sleep(0.05)
    os.killpg(demo.pid, number)
    demo.communicate(timeout=30 * harness.PATIENCE)
    assert demo.returncode in (130, 143)


def test_a_reader_that_goes_away_ends_it(scratch):
    demo = start(scratch, "--seconds", "3")
    demo.stdout.readline()
    demo.stdout.close()
    demo.stderr.read()
    demo.stderr.close()
    assert demo.wait(60 * harness.PATIENCE) == 141
