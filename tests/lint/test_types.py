# SPDX-License-Identifier: MIT
"""The Python package is typed, strictly; what its stub tells of the extension is tried by
tests/python/test_built.py."""
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


LEAST = (1, 10)  # older ones do not know what typeshed says of buffers today


def mypy():
    """(the command or None, why not)"""
    found = None
    for command in ([sys.executable, "-m", "mypy"], ["mypy"]):
        if not shutil.which(command[0]):
            continue
        said = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
        version = re.search(r"mypy (\d+)\.(\d+)", said.stdout)
        if version and tuple(map(int, version.groups())) >= LEAST:
            return command, ""
        found = version and version.group() or found
    return None, (f"{found} is too old" if found else "no mypy here") + " (python3 -m pip install mypy)"


MYPY, WHY = mypy()
needs_mypy = pytest.mark.skipif(MYPY is None, reason=WHY)


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
