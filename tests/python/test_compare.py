# SPDX-License-Identifier: MIT
"""bench/peers/compare.py: loaders deliver every value, and the page says what was found."""
import json
import subprocess
import sys

import harness
import pytest

PEERS = harness.ROOT / "bench" / "peers"
sys.path.insert(0, str(PEERS))

import report  # noqa: E402  found through the line above

has_numpy = subprocess.run([sys.executable, "-c", "import numpy"], capture_output=True, check=False).returncode == 0
needs_numpy = pytest.mark.skipif(not has_numpy, reason="no numpy here (python3-numpy)")
OWN = ["seqfeed, C client", "seqfeed, C client that copies", "seqfeed, numpy views", "seqfeed, numpy views, no cache",
       "seqfeed.torch, zero_copy", "seqfeed.torch"]
OTHERS = ["numpy + zstandard by hand", "numpy by hand, uncompressed", "PyTorch DataLoader, in process",
          "PyTorch DataLoader, 1 worker", "PyTorch DataLoader, 2 workers",
          "PyTorch DataLoader, pad_sequence, uncompressed", "SPDL, 2 threads", "LitData",
          "Hugging Face, Arrow", "Hugging Face, streaming Parquet", "WebDataset", "MosaicML Streaming", "Grain",
          "TensorSocket", "catid_dataloader", "catid_dataloader, packed rows, no labels"]


def compare(out, *options):
    ran = subprocess.run(
        [sys.executable, str(PEERS / "compare.py"), "--data", str(out / "data"), "--build", str(harness.BUILD),
         "--tokens", "150000", "--rounds", "1", "--seconds", "0.01", "--steps", "20", "--json", str(out / "found.json"),
         "--markdown", str(out / "page.md"), "--plot", str(out / "plot.svg"), *options],
        capture_output=True, text=True, timeout=240, check=False, env=harness.environment())
    assert ran.returncode == 0, ran.stderr
    return json.loads((out / "found.json").read_text()), ran


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """One epoch of every loader that is here, every value looked at."""
    return compare(tmp_path_factory.mktemp("checked"), "--tasks", "check")[0]


@needs_numpy
@pytest.mark.slow
@pytest.mark.parametrize("name", OWN + OTHERS)
def test_a_loader_delivers_every_value(checked, name):
    if checked["facts"]["missing"][name]:
        pytest.skip(f"no {checked['facts']['missing'][name][0]} here")
    (run,) = [run for run in checked["runs"] if run["loader"] == name]
    if name == "TensorSocket":  # it leaves out what fills no message
        assert 0 < run["missing"] < 0.3 * checked["corpus"]["tokens"]
    elif name.endswith("no labels"):
        assert run["missing"] == 0 and run["cells"] > run["tokens"], run
    else:
        assert run.get("right"), run
    assert run["peak"] > 1 << 20


@needs_numpy
@pytest.mark.slow
def test_seqfeed_runs_every_task(tmp_path):
    found, ran = compare(tmp_path, "--all", "--loaders", "seqfeed")
    here = [name for name in OWN if not found["facts"]["missing"][name]]
    for name in set(OWN) - set(here):
        assert f"{name}: left out" in ran.stderr
    seen = {(run["task"], run["loader"]) for run in found["runs"]}
    assert {task for task, _ in seen} == {"check", "W0", "W1", "W2", "W3", "W4", "W5", "share",
                                          report.BESIDE}
    assert {name for _, name in seen} == set(here)
    for run in found["runs"]:
        assert run.get("right", run["task"] in ("W0", "W5")), run
    page = (tmp_path / "page.md").read_text()
    assert all(f"| {name} |" in page for name in here)
    dots = len(report.COLOURS) + sum(task in report.COLOURS for task, _ in seen)  # the legend's, and theirs
    assert (tmp_path / "plot.svg").read_text().count("<circle") == dots


# --- the report, on figures made up here ----------------------------------------------------------

def run(task, name, speed, **more):
    return {"task": task, "loader": name, "tokens": 10**6, "seconds": 1e6 / speed, "speed": speed, "cpu": 0.02,
            "own_cpu": 0.01, "trainer_cpu": 0.012, "batches": 60, "peak": 50 << 20, "first_ms": 40, "round": 0,
            "wait_p50_us": 5, "wait_p99_us": 9, "missing": 0, "right": True} | more


def made_up(runs):
    names = {each["loader"] for each in runs}
    return report.Found({
        "runs": runs, "machine": {}, "minutes": 1, "corpus": {}, "facts": {
            "missing": {}, "loaders": {name: {"torch": "torch" in name.lower()} for name in names}}})


def test_a_goal_that_is_missed_is_called_so():
    hand = "numpy + zstandard by hand"
    lines = report.goal_table(made_up([run("W1", report.OURS, 100e6), run("W1", hand, 50e6),
                                       run("W1", report.TORCH, 150e6)])).splitlines()
    (line,) = [line for line in lines if hand in line]
    assert line == f"| tokens/s over {hand} | 2.5 | 2.0, **missed** | – | 3.0 |"


def test_what_python_adds_to_a_batch_is_told_in_microseconds():
    found = made_up([run("W0", report.CLIENT, 1e6, cpu=0.010), run("W0", report.OURS, 1e6, cpu=0.0106),
                     run("W0", report.VIEWS, 1e6, cpu=0.0124), run("W0", report.TORCH, 1e6, cpu=0.0139),
                     run("W0", report.CLIENT_COPIES, 1e6, cpu=0.0130)])
    told = report.goal_table(found)
    assert "handing over a batch, us | < 20 | 10.0 | 40.0, **missed** | 15.0 |" in told
    assert "the C client without a copy | – | – | – | 65.0 |" in told


def test_the_best_of_a_peers_lines_counts():
    found = made_up([run("W1", report.OURS, 100e6), run("W1", "WebDataset", 1e6),
                     run("W1", "WebDataset, 2 workers", 4e6)])
    assert "tokens/s over WebDataset, 2 workers | 40 | 25.0, **missed**" in report.goal_table(found)


def test_of_several_rounds_the_median_counts():
    assert made_up([run("W1", report.OURS, speed) for speed in (1e6, 9e6, 3e6)]).of("W1", report.OURS, "speed") == 3e6


def test_sharing_is_compared_with_the_run_right_before():
    alone = [run(report.BESIDE, report.OURS, 1e6, round=number, cpu=0.01 + seconds)  # own_cpu is 0.01
             for number, seconds in enumerate((0.01, 0.02, 0.005, 0.1))]             # four failed after the last
    four = [run("share", report.OURS, 1e6, round=number, cpu=0.014, own_cpu=0.0115, trainer_cpu=0.01)
            for number in (2, 0, 1)]
    found = made_up(alone + four)
    # Loading costs four 4 x 0.0025 s, one 0.01, 0.02, 0.005 s; the daemon 4 x 0.004 s and 0.008, 0.018, 0.003 s.
    assert report.sharing_cost(found, report.OURS) == pytest.approx(1)
    assert report.sharing_cost(found, report.OURS, "daemon_per_million") == pytest.approx(2)
    # Of 60 batches; the median pair costs one as much as four.
    assert report.sharing_adds(found, report.OURS) == pytest.approx(0)


def test_where_another_is_better_is_told():
    better = report.better(made_up([run("W1", report.OURS, 2e6), run("W1", "SPDL, 2 threads", 1e6, first_ms=7)]))
    assert better == f"- W1, SPDL, 2 threads: first batch after 7 ms; {report.OURS}: first batch after 40 ms.\n"


def test_wrong_sums_of_ours_fail_the_run(capsys):
    wrong = {"runs": [run("W1", report.OURS, 1e6, right=False)], "machine": {}, "minutes": 1, "corpus": {},
             "facts": {"missing": {}, "loaders": {report.OURS: {"torch": False}}}}
    assert report.tell(wrong, None, None, {}) == 1
    assert "wrong sums" in capsys.readouterr().err
