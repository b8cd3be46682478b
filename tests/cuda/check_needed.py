#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""check_needed.py PROGRAM: the program starts without CUDA's libraries and without C++'s."""
import re
import subprocess
import sys

listed = subprocess.run(["readelf", "-d", sys.argv[1]], capture_output=True, text=True, check=True)
needed = re.findall(r"\(NEEDED\).*\[(.*)\]", listed.stdout)
wrong = [name for name in needed if re.match(r"lib(cuda|nv|stdc\+\+|gcc_s)", name)]
print(" ".join(needed))
sys.exit(f"{sys.argv[1]} needs {' '.join(wrong)}" if wrong or "libc.so.6" not in needed else 0)
