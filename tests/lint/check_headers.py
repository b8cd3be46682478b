#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Every header compiles alone, so that no file leans on what another one happened to include.
Left out are templates, which are included several times and so have no guard, and the inner parts of
the client header, of which only the whole is for users.

check_headers.py [ROOT]      prints the compiler's words, exits 1 if a header fails
"""
import pathlib
import re
import subprocess
import sys
import tempfile

FLAGS = ["-fsyntax-only", "-std=gnu17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror",
         "-Wno-unused-function", "-Wno-unused-parameter"]


GUARD = re.compile(r"^#pragma once$|^#ifndef \w+_H$", re.MULTILINE)


def headers(root):
    yield from sorted((root / "include").rglob("seqfeed.h"))
    for path in sorted((root / "src").rglob("*.h")):
        if GUARD.search(path.read_text(encoding="utf-8")):
            yield path


def check(root, compiler="gcc", include=()):
    root = pathlib.Path(root)
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        probe = pathlib.Path(scratch) / "probe.c"
        paths = [f"-I{folder}" for folder in (root / "src", root / "include", *include)]
        for header in headers(root):
            probe.write_text(f'#include "{header}"\n#include "{header}"\ntypedef int probe;\n')
            ran = subprocess.run([compiler, *FLAGS, *paths, str(probe)], capture_output=True,
                                 text=True, check=False)
            if ran.returncode:
                words = ran.stderr.strip().splitlines()
                told = next((line for line in words if "error" in line), words[0])
                found.append(f"{header.relative_to(root)}:1: does not compile alone: {told}")
    return found


if __name__ == "__main__":
    here = pathlib.Path(__file__).resolve().parents[2]
    problems = check(sys.argv[1] if len(sys.argv) > 1 else here)
    print("\n".join(problems) or "headers: each compiles alone")
    sys.exit(1 if problems else 0)
