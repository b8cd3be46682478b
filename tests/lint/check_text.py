#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What can be said about files without compiling them.

check_text.py [ROOT]      prints what breaks the rules, exits 1 if anything does
"""
import contextlib
import pathlib
import re
import subprocess
import sys

LINES_MAX = 600
FUNCTION_MAX = 70
CODE = {".c", ".h", ".cc", ".cu", ".cuh", ".py"}
SCRIPTS = {"dev", "run"}
UNIQUE_IN = ("src", "cuda")
# Words in two halves, so that this file does not break its own rules.
LATER = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
MACHINE = re.compile(r"(?:^|[^\w.])/(?:work|farm|root/|home/(?!USER|me/|you/))[/\w]", re.MULTILINE)
MADE = re.compile(r"build($|-)|\.git$|\.cache$|\.pytest_cache$")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def tracked(root):
    """Files under version control and new ones that git does not ignore; without git, or where it
    does not trust the folder, all that do not look made."""
    with contextlib.suppress(FileNotFoundError):
        listed = subprocess.run(["git", "-C", str(root), "ls-files", "-co", "--exclude-standard"],
                                capture_output=True, text=True, check=False)
        if listed.returncode == 0:
            names = listed.stdout.splitlines()
            return sorted(pathlib.Path(name) for name in names if (root / name).is_file())
    paths = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(path for path in paths
                  if not MADE.match(path.parts[0]) and "__pycache__" not in path.parts)


def read_text(path):
    """The text of a file, or None where it holds bytes that are no text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def check_licence(path, text):
    if path.suffix not in CODE and path.name not in SCRIPTS:
        return []
    if "SPDX-License-Identifier: MIT" in "\n".join(text.splitlines()[:3]):
        return []
    return [f"{path}:1: no SPDX-License-Identifier line at its head"]


def check_size(path, text):
    lines = text.count("\n")
    if path.suffix in CODE and lines > LINES_MAX:
        return [f"{path}:{LINES_MAX}: {lines} lines, more than {LINES_MAX}: is there a missing noun?"]
    return []


def check_words(path, text):
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if path.suffix in CODE and LATER.search(line):
            found.append(f"{path}:{number}: left for later: {line.strip()}")
        if MACHINE.search(line):
            found.append(f"{path}:{number}: a path of one machine: {line.strip()}")
    return found


def check_links(root, path, text):
    found = []
    if path.suffix != ".md":
        return found
    for match in LINK.finditer(text):
        target = match.group(1)
        if "://" in target or target.startswith("mailto:"):
            continue
        if not (root / path.parent / target).exists():
            line = text.count("\n", 0, match.start()) + 1
            found.append(f"{path}:{line}: the link to {target} leads nowhere")
    return found


def check_unique(files):
    """A name says which file is meant, so it may stand only once. meson.build and main.c are no
    names."""
    found, seen = [], {}
    for path in files:
        if path.parts[0] not in UNIQUE_IN or path.name in ("meson.build", "main.c"):
            continue
        if path.name in seen:
            found.append(f"{path}:1: there is a file of this name already: {seen[path.name]}")
        seen[path.name] = path
    return found


def check(root):
    root = pathlib.Path(root).resolve()
    files = tracked(root)
    found = check_unique(files)
    for path in files:
        text = read_text(root / path)
        if text is None or (root / path).is_symlink():
            continue
        found += check_licence(path, text) + check_size(path, text) + check_words(path, text)
        found += check_links(root, path, text)
    return found


def check_functions(root, ctags="ctags"):
    """Functions past FUNCTION_MAX lines; needs Universal Ctags."""
    root = pathlib.Path(root).resolve()
    files = [str(path) for path in tracked(root)
             if path.parts[0] in ("src", "include", "cuda") and path.suffix in CODE - {".py"}]
    if not files:
        return []
    listed = subprocess.run(
        [ctags, "-f", "-", "--fields=+ne", "--languages=C,C++,CUDA", "--langmap=C:+.h",
         "--kinds-C=f", "--kinds-CUDA=f", *files],
        cwd=root, capture_output=True, text=True, check=True)
    found = []
    for line in listed.stdout.splitlines():
        fields = line.split("\t")
        numbers = dict(field.split(":", 1) for field in fields[3:] if ":" in field)
        if "end" not in numbers:
            continue
        lines = int(numbers["end"]) - int(numbers["line"]) + 1
        if lines > FUNCTION_MAX:
            found.append(f"{fields[1]}:{numbers['line']}: {fields[0]} has {lines} lines, "
                         f"more than {FUNCTION_MAX}")
    return found


if __name__ == "__main__":
    here = pathlib.Path(__file__).resolve().parents[2]
    problems = check(sys.argv[1] if len(sys.argv) > 1 else here)
    print("\n".join(problems) or "text: nothing to mend")
    sys.exit(1 if problems else 0)
