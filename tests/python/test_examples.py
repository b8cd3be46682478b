# SPDX-License-Identifier: MIT
"""The examples in Python do what they say."""
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys

import harness
import pytest
import seqfeed
import yaml

LICENCES = [path for path in map(pathlib.Path, ("/usr/share/common-licenses/Apache-2.0",
                                                "/usr/share/common-licenses/Artistic",
                                                "/usr/share/common-licenses/MPL-2.0"))
            if path.exists()]


def cannot_import(name):
    return subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True,
                          check=False).returncode != 0


needs_torch = pytest.mark.skipif(cannot_import("torch"), reason="no torch here (python3-torch)")
needs_jax = pytest.mark.skipif(cannot_import("jax"), reason="no JAX here")
needs_text = pytest.mark.skipif(len(LICENCES) < 3, reason="no licences in /usr/share/common-licenses")
LINES = yaml.safe_load((harness.ROOT / "examples/python/text_classifier.yaml").read_text())["feeds"]["train"]
LINES.pop("dataset")


def start_example(name, *options, **environment):
    return subprocess.Popen(
        [sys.executable, str(harness.ROOT / "examples/python" / name), *map(str, options)], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=harness.environment(OMP_NUM_THREADS=1, **environment))


def run_example(name, *options, code=0):
    """What its last line says."""
    process = start_example(name, *options)
    said, errors = process.communicate(timeout=400)
    assert process.returncode == code, errors
    return json.loads(said.splitlines()[-1]) if code == 0 else None


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """The licences by line, in blocks small enough that there are many."""
    folder = tmp_path_factory.mktemp("lines") / "data"
    seqfeed.tokenize(LICENCES, tokenizer="bytes", out=folder, label="file", block=4096)
    return folder


@needs_torch
@needs_text
@pytest.mark.slow
def test_the_classifier_learns_and_survives_being_killed(tmp_path):
    whole = run_example("text_classifier.py", *LICENCES, "--epochs", 2)
    assert whole["accuracy"] > 1.4 * whole["chance"]
    state = ("--epochs", 2, "--checkpoint", tmp_path / "state")
    run_example("text_classifier.py", *LICENCES, *state, "--stop-after", 7, code=9)
    rest = run_example("text_classifier.py", *LICENCES, *state)
    assert rest["losses"] == pytest.approx(whole["losses"][7:], abs=1e-5)
    assert rest["steps"] == whole["steps"]


def classify_on(ranks, daemon, *options, code=0):
    """The classifier on so many ranks under gloo; what rank 0 says."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port} if ranks > 1 else {}
    processes = [start_example("text_classifier.py", *LICENCES, "--socket", daemon.socket, *options,
                               **launcher, **({"RANK": rank} if ranks > 1 else {}))
                 for rank in range(ranks)]
    said = [process.communicate(timeout=400) for process in processes]
    assert processes[0].returncode == code, said
    # A rank that is left alone fails at its next collective operation.
    assert all((process.returncode == 0) == (code == 0) for process in processes), said
    results = [json.loads(out.splitlines()[-1]) for out, _ in said] if code == 0 else [None]
    assert all(each == results[0] for each in results)  # every rank knows the sums over all
    return results[0]


@needs_torch
@needs_text
@pytest.mark.slow
def test_a_curve_goes_on_with_another_number_of_ranks(start, lines, tmp_path):
    daemon = start(lines, **LINES)
    one = classify_on(1, daemon, "--epochs", 2)
    two = classify_on(2, daemon, "--epochs", 2)
    # 36 batches an epoch in steps of two; floats are added in another order, and Adam adds to that.
    assert one["steps"] == two["steps"] == 36 and one["accuracy"] > 1.4 * one["chance"]
    assert two["losses"] == pytest.approx(one["losses"], abs=2e-3)
    assert two["losses"][:3] == pytest.approx(one["losses"][:3], abs=2e-5)
    for before, after in ((2, 1), (1, 2)):
        state = ("--epochs", 2, "--checkpoint", tmp_path / f"state{before}")
        classify_on(before, daemon, *state, "--stop-after", 7, code=9)
        rest = classify_on(after, daemon, *state)
        assert rest["losses"] == pytest.approx(one["losses"][7:], abs=2e-3)
        assert rest["losses"][0] == pytest.approx(one["losses"][7], abs=2e-5)
        assert rest["steps"] == 36


@needs_torch
@needs_text
@pytest.mark.slow
def test_a_sweep_decodes_once(start, lines):
    daemon = start(lines, top={"cache": 0}, **LINES)
    epochs = 3
    results = run_example("sweep.py", *LICENCES, "--epochs", epochs, "--socket", daemon.socket)
    assert len(results) == 4 and len({each["checksum"] for each in results}) == 1
    assert {each["batches"] for each in results} == {epochs * 36}
    assert max(each["loss"] for each in results) > 1.5 * min(each["loss"] for each in results)
    blocks = seqfeed.Dataset(lines).blocks
    decoded = daemon.status()["read"]["decoded"]
    # Here an epoch is one window, and two windows are read ahead; four alone would decode 12 epochs.
    assert blocks > 5 and epochs * blocks <= decoded <= (epochs + 2) * blocks


@needs_torch
@pytest.mark.slow
def test_time_series_are_forecast():
    errors = run_example("time_series.py")
    assert errors["network"] < errors["linear"] / 2 and errors["network"] < errors["last"] / 20


@needs_jax
@needs_text
@pytest.mark.slow
def test_jax_learns_and_survives_being_killed(tmp_path):
    whole = run_example("jax_classifier.py", *LICENCES)
    assert whole["accuracy"] > 1.6 * whole["chance"] and whole["shapes"] == 1
    state = ("--checkpoint", tmp_path / "state")
    run_example("jax_classifier.py", *LICENCES, *state, "--stop-after", 7, code=9)
    rest = run_example("jax_classifier.py", *LICENCES, *state)
    assert rest["losses"] == pytest.approx(whole["losses"][7:], abs=1e-5)


@needs_torch
@needs_text
@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_ten_lines_from_nothing_to_training(tmp_path, page):
    blocks = re.findall(r"```python\n(.*?)```", (harness.ROOT / page).read_text(), re.DOTALL)
    found = [block for block in blocks if "optimizer.step()" in block]  # the first, as from_nothing takes it
    assert found and len(list(filter(str.strip, found[0].splitlines()))) <= 10
    for path in LICENCES:
        shutil.copy(path, tmp_path / f"{path.name}.txt")
    ran = subprocess.run([sys.executable, "-c", found[0] + "\nprint(float(loss))"], cwd=tmp_path,
                         env=harness.environment(OMP_NUM_THREADS=1), capture_output=True, text=True,
                         timeout=400, check=False)
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout.splitlines()[-1]) < 3.5  # nats a byte; knowing nothing is ln 256 = 5.5
    assert os.listdir(tmp_path / "corpus")
