# SPDX-License-Identifier: MIT
"""./dev gpu: a page that says what was passed, what failed and what was left out, and why. The programs
that need a GPU are played by scripts; the daemon and its batches are real."""
import os
import re
import subprocess
import sys

import harness
import pytest

STEPS = 8


def played_daemon(salt=""):
    """A daemon that says it uses a GPU and does not; with salt its batches are others."""
    return f'#!/bin/sh\nsed -i "s/backend: cuda/backend: cpu{salt}/" "$2"\nexec {harness.DAEMON} "$@"\n'


def report(build, tmp_path, *words, **env):
    """The exit code, what was printed, and the page as {step: (result, text)}."""
    page = tmp_path / "page.md"
    ran = subprocess.run([sys.executable, str(harness.ROOT / "bench/gpu_report.py"), "--build", str(build), "--output",
                          str(page), "--rounds", "2", "--batches", "20", *words], capture_output=True, text=True,
                         env=harness.environment(**env), timeout=500, check=False)
    assert not ran.stderr, ran.stderr
    steps = re.findall(r"^## ([^\n]*): (passed|failed|left out)\n\n`[^\n]*`\n\n```\n(.*?)\n```$", page.read_text(),
                       re.MULTILINE | re.DOTALL)
    assert len(steps) == STEPS
    return ran.returncode, ran.stdout, {title: (result, text) for title, result, text in steps}


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def played(tmp_path):
    """A build folder in which all is well."""
    build = tmp_path / "build"
    script(build / "tests/cuda/test_gpu", '#!/bin/sh\necho "$1 rounds"\n')
    script(build / "bench/gpu_masks", "#!/bin/sh\necho kernel 4.1 TB/s\n")
    script(tmp_path / "bin/compute-sanitizer", '#!/bin/sh\necho "$2: no error"\n')
    script(build / "seqfeedd", played_daemon())
    (build / "seqfeed").symlink_to(harness.TOOL)
    (build / "build.ninja").write_text("build bench/gpu_masks: phony\n")
    return build


def path_with(tmp_path):
    return f"{tmp_path / 'bin'}:{os.environ['PATH']}"


def test_without_a_gpu_all_is_left_out_with_its_reason(tmp_path):
    code, said, steps = report(harness.BUILD, tmp_path)
    assert code == 0, said
    if any(result == "passed" for result, _ in steps.values()):
        pytest.skip("there is a GPU here")
    assert {result for result, _ in steps.values()} == {"left out"}
    for _, reason in steps.values():
        assert re.search(r"no NVIDIA driver|no GPU|built without CUDA|is not built|too old", reason)
    assert said.splitlines()[-1] == f"0 passed, 0 failed, {STEPS} left out; {tmp_path / 'page.md'}"


def test_what_programs_say_stands_on_the_page(tmp_path, played):
    _, _, steps = report(played, tmp_path, PATH=path_with(tmp_path))
    assert steps["Random feeds against the CPU"] == ("passed", "2 rounds")
    assert steps["Figures"] == ("passed", "kernel 4.1 TB/s")
    assert steps["compute-sanitizer, racecheck"] == ("passed", "racecheck: no error")


def test_a_check_that_fails_is_told_and_the_others_go_on(tmp_path, played):
    script(played / "tests/cuda/test_gpu", '#!/bin/sh\n[ "$1" != 2 ] || { echo tensor 3 differs; exit 1; }\n')
    script(tmp_path / "bin/compute-sanitizer", "#!/bin/sh\nsleep 30\n")
    code, said, steps = report(played, tmp_path, "--seconds", "1", PATH=path_with(tmp_path))
    assert code == 1 and "failed    Random feeds against the CPU: exit 1" in said
    assert steps["Random feeds against the CPU"] == ("failed", "exit 1\ntensor 3 differs")
    assert steps["Figures"][0] == "passed"
    assert steps["compute-sanitizer, memcheck"] == ("failed", "not done after 1 s (--seconds)")


def test_batches_that_no_gpu_wrote_are_no_success(tmp_path, played):
    code, _, steps = report(played, tmp_path, PATH=path_with(tmp_path))
    assert code == 1
    for kind in ("padded", "packed"):
        result, reason = steps[f"The daemon's batches, {kind}"]
        assert result == "failed" and "it wrote no batch" in reason, reason


def test_other_batches_than_the_cpus_are_found(tmp_path, played):
    script(played / "seqfeedd", played_daemon(r"\n    order: {seed: 9}"))
    code, _, steps = report(played, tmp_path, PATH=path_with(tmp_path))
    assert code == 1
    for kind in ("padded", "packed"):
        result, reason = steps[f"The daemon's batches, {kind}"]
        assert result == "failed" and reason.startswith("the batches differ: "), reason
