# SPDX-License-Identifier: MIT
"""Who writes the batches: what a daemon says at start, and what it refuses. What a device does to the
bytes is tested in tests/pipeline/test_device.c."""
import json
import re
import subprocess

import harness
import pytest

CONFIGURATION = 78


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    rows = harness.random_rows(300, seed=4, longest=30)
    return harness.pack(tmp_path_factory.mktemp("backend") / "dataset", rows)


def masks_line(daemon):
    lines = re.findall(r"masks: (cpu|cuda) \((.+)\)$", daemon.log, re.MULTILINE)
    assert len(lines) == 1, daemon.log
    return lines[0]


def parts():
    ran = subprocess.run([str(harness.DAEMON), "--version"], capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()[1].split()


def start_or_refusal(config):
    """What `--check` says of a configuration: (exit code, words)."""
    ran = subprocess.run([str(harness.DAEMON), "--config", str(config), "--check"], capture_output=True,
                         text=True, env=harness.environment(), check=False)
    return ran.returncode, ran.stderr


def test_auto_says_what_it_took_and_why(start_daemon, dataset, tmp_path):
    daemon = start_daemon(harness.one_feed(tmp_path / "c.yaml", dataset))
    backend, reason = masks_line(daemon)
    assert backend == "cpu" or "cuda" in parts()
    if "cuda" not in parts():
        assert reason == "built without CUDA"
    status = json.loads(harness.tool("status", "--json", "--socket", daemon.socket).stdout)
    assert status["masks"] == {"backend": backend, "reason": reason}


def test_cpu_is_always_there(start_daemon, dataset, tmp_path):
    daemon = start_daemon(harness.one_feed(tmp_path / "c.yaml", dataset, backend="cpu"))
    expected = "no feed asks for CUDA" if "cuda" in parts() else "built without CUDA"
    assert masks_line(daemon) == ("cpu", expected)


def test_status_says_who_writes_a_streams_batches(start_daemon, dataset, tmp_path):
    daemon = start_daemon(harness.one_feed(tmp_path / "c.yaml", dataset, backend="cpu"))
    command = [str(harness.TOOL), "cat", "train", "-n", "100000", "--json", "--socket", str(daemon.socket)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=harness.environment()) as cat:
        try:
            assert cat.stdout.readline()  # and no more: it stays
            status = json.loads(harness.tool("status", "--json", "--socket", daemon.socket).stdout)
        finally:
            cat.kill()
    masks = status["streams"][0]["masks"]
    assert masks == {"backend": "cpu", "reason": masks_line(daemon)[1], "device_batches": 0}
    assert status["memory"]["kept"] == 0


def test_cuda_is_refused_where_auto_does_not_take_it(start_daemon, dataset, tmp_path):
    usable, reason = masks_line(start_daemon(harness.one_feed(tmp_path / "auto.yaml", dataset)))
    code, said = start_or_refusal(harness.one_feed(tmp_path / "c.yaml", dataset, backend="cuda"))
    if usable == "cuda":
        assert code == 0, said
        return
    assert code == CONFIGURATION
    assert re.search(r"c\.yaml:\d+:\d+: feeds\.\w+\.backend: cuda cannot be used: ", said)
    assert reason in said


def test_a_device_that_is_not_there_is_named(dataset, tmp_path):
    code, said = start_or_refusal(
        harness.one_feed(tmp_path / "c.yaml", dataset, backend="cuda", device=999))
    assert code == CONFIGURATION and "backend: cuda cannot be used: " in said


def test_device_means_nothing_without_one(dataset, tmp_path):
    code, said = start_or_refusal(
        harness.one_feed(tmp_path / "c.yaml", dataset, backend="cpu", device=0))
    assert code == CONFIGURATION and ".device: means nothing with backend: cpu" in said


@pytest.mark.parametrize("keys", [
    {},
    {"batch": {"policy": "pack", "size": 4, "length": 64}, "tensors": "megatron"},
    {"batch": {"policy": "pack", "size": 2, "length": 96},
     "tensors": {"tokens": {"from": "tokens"}, "blocks": {"make": "block_lists", "block": 16},
                 "own": {"mask": {"all": ["segments", "causal"]}, "shape": "dense"}}},
], ids=["padded", "packed", "blocks"])
def test_a_gpu_writes_the_bytes_of_the_cpu(start_daemon, dataset, tmp_path, keys):
    usual = start_daemon(harness.one_feed(tmp_path / "auto.yaml", dataset, **keys))
    backend, reason = masks_line(usual)
    if backend == "cpu":
        pytest.skip(f"no GPU is used here: {reason}")
    other = start_daemon(harness.one_feed(tmp_path / "cpu.yaml", dataset, backend="cpu", **keys))
    said = [harness.tool("cat", "train", "-n", "3000", "--json", "--socket", daemon.socket).stdout
            for daemon in (usual, other)]
    harness.same_batches(*(harness.parse_batches(text) for text in said))
    assert "is lost" not in usual.log and "failed" not in usual.log
