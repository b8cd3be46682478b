# SPDX-License-Identifier: MIT
"""The front door explains itself, and its closing line counts right."""
import json
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTEST_XML = """<?xml version="1.0"?><testsuites><testsuite>
<testcase classname="a" name="passes"/>
<testcase classname="a" name="fails"><failure message="assert 1 == 2&#10;more">trace</failure></testcase>
<testcase classname="a" name="breaks"><error message="no fixture">trace</error></testcase>
<testcase classname="a" name="skips"><skipped message="no such thing here"/></testcase>
</testsuite></testsuites>"""


def dev(*words):
    return subprocess.run([str(ROOT / "dev"), *words], capture_output=True, text=True, check=False)


def summary(folder):
    return subprocess.run([sys.executable, str(ROOT / "tests/summary.py"), str(folder)],
                          capture_output=True, text=True, check=False)


def meson_log(*results):
    return "".join(json.dumps({"name": f"test {number}", "result": result, "stdout": "a reason\n"}) + "\n"
                   for number, result in enumerate(results))


def test_without_a_command_it_prints_help():
    ran = dev()
    assert ran.returncode == 0
    for name in ("demo", "test", "build", "bench", "gpu", "lint", "fuzz", "coverage", "clean"):
        assert re.search(rf"^  {name}\b", ran.stdout, re.MULTILINE)


def test_an_unknown_command_is_wrong_usage():
    ran = dev("nonsense")
    assert ran.returncode == 2 and "usage" in ran.stderr


@pytest.mark.parametrize("words, said", [
    (("test", "--bogus"), "--quick"), (("test", "--quick", "x"), "--quick"), (("build", "--bogus"), "asan"),
    (("build", "debug", "x"), "one variant"), (("lint", "--bogus"), "--fix"), (("fuzz", "--bogus"), "seconds"),
    (("fuzz", "0"), "seconds"), (("coverage", "--bogus"), "nothing"), (("clean", "--bogus"), "nothing"),
], ids=str)
def test_an_unknown_option_is_refused_with_the_allowed_ones(words, said):
    ran = dev(*words)
    assert ran.returncode == 2 and ran.stdout == ""
    assert f"dev: {words[0]} takes" in ran.stderr and said in ran.stderr and words[-1] in ran.stderr


def test_a_missing_library_is_named_as_the_package_that_dev_installs():
    front_door = (ROOT / "dev").read_text()
    build = re.sub(r"\n +", " ", (ROOT / "meson.build").read_text())
    needed = re.findall(r"= dependency\('(?!threads)([^']+)'(.*)", build)
    assert len(needed) >= 7
    for name, rest in needed:
        package = re.search(r"apt-get install ([\w-]+)", rest)
        assert package, f"meson.build does not say which package brings {name}"
        assert re.search(rf"[ (]{package[1]}[ )]", front_door.replace("\n", " ")), package[1]


def test_results_of_all_kinds_add_up(tmp_path):
    (tmp_path / "unit.json").write_text(meson_log("OK", "OK", "SKIP", "FAIL", "TIMEOUT", "ERROR"))
    (tmp_path / "process.xml").write_text(PYTEST_XML)
    (tmp_path / "clang.skip").write_text("no clang here")
    (tmp_path / "tsan.fail").write_text("does not build")
    ran = summary(tmp_path)
    assert ran.returncode == 1
    assert ran.stdout.splitlines()[-1] == "3 passed, 6 failed, 3 skipped"
    for reason in ("a reason", "no such thing here", "no clang here", "does not build", "assert 1 == 2",
                   "no fixture"):
        assert reason in ran.stdout


def test_success_is_exit_0(tmp_path):
    (tmp_path / "unit.json").write_text(meson_log("OK", "SKIP"))
    ran = summary(tmp_path)
    assert ran.returncode == 0
    assert ran.stdout.splitlines()[-1] == "1 passed, 0 failed, 1 skipped"


def test_no_test_at_all_is_a_failure(tmp_path):
    ran = summary(tmp_path)
    assert ran.returncode == 1
    assert ran.stdout.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"


def test_a_log_that_was_cut_is_a_failure(tmp_path):
    (tmp_path / "unit.json").write_text(meson_log("OK", "OK")[:-20])
    (tmp_path / "process.xml").write_text(PYTEST_XML[:-20])
    ran = summary(tmp_path)
    assert ran.returncode == 1
    assert "2 failed" in ran.stdout.splitlines()[-1]
