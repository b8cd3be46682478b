#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write the client header as one file: quoted includes are replaced, once each, by what they name.

usage: merge_header.py OUTPUT ROOT... HEADER     (HEADER and what it includes are found under ROOT)
"""
import pathlib
import re
import sys


def find(name, roots):
    for root in roots:
        if (root / name).is_file():
            return root / name
    sys.exit(f"merge_header.py: {name} is in none of {', '.join(map(str, roots))}")


def merge(name, roots, done):
    lines = []
    for line in find(name, roots).read_text().splitlines():
        match = re.fullmatch(r'#include "([^"]+)"', line)
        if not match:
            lines.append(line)
        elif match[1] not in done:
            done.add(match[1])
            lines += ["", f"/* ---- {match[1]} ---- */"]
            body = merge(match[1], roots, done)
            lines += [text for text in body if "SPDX-License-Identifier" not in text]
    return lines


def main():
    output, *roots, header = sys.argv[1:]
    lines = merge(header, [pathlib.Path(root) for root in roots], {header})
    pathlib.Path(output).write_text("\n".join(lines) + "\n")


main()
