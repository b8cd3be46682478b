# SPDX-License-Identifier: MIT
"""The examples in Python do what they say."""
import json
import pathlib
import subprocess
import sys

import harness
import pytest

LICENCES = [path for path in map(pathlib.Path, ("/usr/share/common-licenses/Apache-2.0",
                                                "/usr/share/common-licenses/Artistic",
                                                "/usr/share/common-licenses/MPL-2.0"))
            if path.exists()]
needs_torch = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, check=False).returncode,
    reason="no torch here (python3-torch)")
needs_text = pytest.mark.skipif(len(LICENCES) < 3, reason="no licences in /usr/share/common-licenses")


def classify(*options, code=0):
    ran = subprocess.run(
        [sys.executable, str(harness.ROOT / "examples/python/text_classifier.py"), *map(str, LICENCES),
         *map(str, options)], capture_output=True, text=True, timeout=120, check=False,
        env=harness.environment(OMP_NUM_THREADS=1))
    assert ran.returncode == code, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1]) if code == 0 else None


@needs_torch
@needs_text
@pytest.mark.slow
def test_the_classifier_learns_and_survives_being_killed(tmp_path):
    whole = classify("--epochs", 2)
    assert whole["accuracy"] > 1.4 * whole["chance"]
    state = tmp_path / "state"
    classify("--epochs", 2, "--checkpoint", state, "--stop-after", 7, code=9)
    rest = classify("--epochs", 2, "--checkpoint", state)
    assert rest["losses"] == pytest.approx(whole["losses"][7:], abs=1e-5)
    assert rest["steps"] == whole["steps"]


@needs_torch
@pytest.mark.slow
def test_all_loaders_of_the_comparison_deliver_the_same(tmp_path):
    if not (harness.BUILD / "bench" / "make_data").exists():
        pytest.skip("bench/make_data was not built")
    ran = subprocess.run(
        [sys.executable, str(harness.ROOT / "bench/peers/compare.py"), "--build", str(harness.BUILD),
         "--data", str(tmp_path / "data"), "--tokens", "300000", "--rounds", "1", "--seconds", "0.01"],
        capture_output=True, text=True, timeout=240, check=False, env=harness.environment())
    assert ran.returncode == 0, ran.stderr
    assert "left out" not in ran.stderr, ran.stderr
    assert "| torch DataLoader, 2 workers |" in ran.stdout
