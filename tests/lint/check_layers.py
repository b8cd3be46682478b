#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Who may include whom: the table of docs/architecture.md against every #include in the tree.

check_layers.py [ROOT]      prints what breaks the rules, exits 1 if anything does

tests, fuzz, bench and examples may include anything; the folders below may not.
"""
import pathlib
import re
import sys

# Folder -> folders whose headers it may include. A folder may always include itself.
ALLOWED = {
    "format": set(),
    "base": set(),
    "shard": {"format", "base"},
    "settings": {"base"},
    "plan": {"base"},
    "mask": {"format", "base"},
    "ring": {"format", "base"},
    "feed": {"settings", "shard", "plan", "mask", "ring", "format", "base"},
    "pipeline": {"feed", "shard", "plan", "mask", "ring", "format", "base"},
    "server": {"pipeline", "feed", "ring", "format", "base"},
    "daemon": {"server", "feed", "settings", "base"},
    "tool": {"include", "format", "feed", "shard", "settings", "base"},
    "cuda": {"mask", "format", "base"},
    "include": {"format"},
    "bindings": {"include", "shard", "base"},
}

# Folder pairs where one header only is open.
ONLY = {("server", "pipeline"): {"pipeline/pipeline.h"}}

# Header of a library (prefix) -> files or folders that may include it.
LIBRARIES = {
    "zstd": {"src/shard"},
    "jansson": {"src/shard", "src/server", "src/tool"},
    "xxhash": {"src/shard", "src/feed"},
    "yaml": {"src/settings"},
    "liburing": {"src/pipeline/fetch_uring.c"},
    "systemd/": {"src/server"},
    "microhttpd": {"src/server"},
    "cuda": {"cuda"},
    "Python": {"bindings"},
}

# format describes bytes and nothing else.
FORMAT_MAY = {"assert.h", "stddef.h", "stdint.h"}

# What a pure folder must not even see.
PURE = {"plan": {"stdio.h", "time.h", "sys/", "fcntl.h", "unistd.h", "pthread.h", "base/clock.h",
                 "base/file.h", "base/worker.h", "base/queue.h"}}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)
SUFFIXES = {".c", ".h", ".cu", ".cuh"}


def folder_of(path):
    """The row of the table that a file belongs to, or None."""
    if path.parts[0] == "src" and len(path.parts) > 2:
        return path.parts[1]
    if path.parts[0] in ("include", "cuda", "bindings"):
        return path.parts[0]
    return None


def target_of(root, path, name):
    """The folder that a quoted include leads to."""
    parts = pathlib.PurePath(name).parts
    if parts[0] == "seqfeed":
        return "include"
    if len(parts) > 1 and (root / "src" / parts[0]).is_dir():
        return parts[0]
    if len(parts) > 1 and parts[0] in ALLOWED:
        return parts[0]
    if len(parts) == 1 and (root / path.parent / name).exists():
        return folder_of(path)
    return None


def check_quoted(root, path, name):
    folder = folder_of(path)
    target = target_of(root, path, name)
    if target is None:
        return f'"{name}" is no header of this project: write "folder/file.h"'
    if target == folder:
        return None
    if target not in ALLOWED.get(folder, set()):
        allowed = ", ".join(sorted(ALLOWED.get(folder, set()))) or "nothing"
        return f'{folder} must not include {target} ("{name}"); it may include {allowed}'
    only = ONLY.get((folder, target))
    if only and name not in only:
        return f'{folder} may include of {target} only {", ".join(sorted(only))}, not "{name}"'
    return None


def check_system(path, name):
    folder = folder_of(path)
    if folder == "format" and name not in FORMAT_MAY:
        return f"format may include only {', '.join(sorted(FORMAT_MAY))}, not <{name}>"
    for library, places in LIBRARIES.items():
        if name.startswith(library):
            if not any(str(path) == place or str(path).startswith(place + "/") for place in places):
                return f"<{name}> belongs to {', '.join(sorted(places))}"
    return None


def check_pure(path, name):
    for banned in PURE.get(folder_of(path), ()):
        if name.startswith(banned):
            return f"{folder_of(path)} is pure (no I/O, no clock, no threads): not {name}"
    return None


def check_file(root, path):
    found = []
    text = (root / path).read_text(encoding="utf-8")
    for match in INCLUDE.finditer(text):
        quote, name = match.groups()
        problem = check_quoted(root, path, name) if quote == '"' else check_system(path, name)
        problem = problem or check_pure(path, name)
        if problem:
            line = text.count("\n", 0, match.start(1)) + 1
            found.append(f"{path}:{line}: {problem}")
    return found


def check(root):
    root = pathlib.Path(root)
    found = []
    for top in ("src", "include", "cuda", "bindings"):
        for absolute in sorted((root / top).rglob("*")):
            path = absolute.relative_to(root)
            if path.suffix not in SUFFIXES or not absolute.is_file():
                continue
            folder = folder_of(path)
            if folder is None or folder not in ALLOWED:
                found.append(f"{path}:1: {path.parent} has no row in the table of layers")
                continue
            found += check_file(root, path)
    return found


if __name__ == "__main__":
    here = pathlib.Path(__file__).resolve().parents[2]
    problems = check(sys.argv[1] if len(sys.argv) > 1 else here)
    print("\n".join(problems) or "layers: every include is allowed")
    sys.exit(1 if problems else 0)
