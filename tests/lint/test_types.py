# SPDX-License-Identifier: MIT
"""The Python package is typed, strictly; what its stub tells of the extension is tried by
tests/python/test_built.py."""
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def mypy():
    """The command, or None."""
    for command in ([sys.executable, "-m", "mypy"], ["mypy"]):
        if shutil.which(command[0]) and subprocess.run([*command, "--version"], capture_output=True,
                                                       check=False).returncode == 0:
            return command
    return None


MYPY = mypy()
needs_mypy = pytest.mark.skipif(MYPY is None, reason="no mypy here (python3 -m pip install mypy)")


def check(folder, tmp_path):
    """Of torch, JAX and numpy whatever is installed, or not: what is checked is the same everywhere."""
    return subprocess.run(
        [*MYPY, "--config-file", str(ROOT / "pyproject.toml"), "--follow-imports", "skip",
         "--cache-dir", str(tmp_path), str(folder)], capture_output=True, text=True, check=False)


@needs_mypy
def test_the_package_is_typed(tmp_path):
    ran = check(ROOT / "bindings/python/seqfeed", tmp_path)
    assert ran.returncode == 0, ran.stdout


@needs_mypy
def test_a_wrong_type_is_found(tmp_path):
    shutil.copytree(ROOT / "bindings/python/seqfeed", tmp_path / "seqfeed")
    with open(tmp_path / "seqfeed/_ranks.py", "a") as file:
        file.write("\n\ndef planted(number: int) -> str:\n    return number\n")
    ran = check(tmp_path / "seqfeed", tmp_path / "cache")
    assert ran.returncode == 1 and "_ranks.py" in ran.stdout and "Found 1 error" in ran.stdout
