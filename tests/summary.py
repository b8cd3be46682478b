#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Adds up what the steps of ./dev test left behind and prints one closing line.

summary.py RESULTS             RESULTS holds NAME.json (meson), NAME.xml (pytest), NAME.fail, NAME.skip
summary.py --threaded BUILD    names of the unit tests of folders that have threads, one a line
"""
import json
import pathlib
import subprocess
import sys
import xml.etree.ElementTree as xml

THREADED = ("base", "client", "ring", "pipeline", "server")


class Tally:
    def __init__(self):
        self.passed = 0
        self.failed = []
        self.skipped = []

    def add_meson(self, path):
        """One JSON object a line and a test. Whatever is neither OK nor SKIP counts as failed."""
        for line in path.read_text().splitlines():
            test = json.loads(line)
            name = f"{path.stem}: {test['name']}"
            if test["result"] in ("OK", "EXPECTEDFAIL"):
                self.passed += 1
            elif test["result"] == "SKIP":
                said = (test.get("stdout") or test.get("stderr") or "").strip().splitlines()
                self.skipped.append((name, said[-1] if said else "no reason given"))
            else:
                self.failed.append((name, test["result"].lower()))

    def add_pytest(self, path):
        for case in xml.parse(path).getroot().iter("testcase"):
            name = f"{path.stem}: {case.get('classname')}::{case.get('name')}"
            skip = case.find("skipped")
            bad = [found for kind in ("failure", "error") for found in case.findall(kind)]
            if bad:
                self.failed.append((name, bad[0].get("message") or ""))
            elif skip is not None:
                self.skipped.append((name, skip.get("message") or "no reason given"))
            else:
                self.passed += 1

    def add(self, path):
        if path.suffix == ".json":
            self.add_meson(path)
        elif path.suffix == ".xml":
            self.add_pytest(path)
        elif path.suffix == ".skip":
            self.skipped.append((path.stem, path.read_text().strip()))
        elif path.suffix == ".fail":
            self.failed.append((path.stem, path.read_text().strip()))


def first_line(text):
    return next(iter(text.splitlines()), "")


def summarise(directory):
    tally = Tally()
    for path in sorted(pathlib.Path(directory).iterdir()):
        try:
            tally.add(path)
        except (ValueError, KeyError, xml.ParseError) as problem:
            tally.failed.append((path.name, f"cannot be read: {problem}"))
    if tally.passed == 0 and not tally.failed:
        tally.failed.append(("everything", "no test ran"))
    print()
    for name, reason in tally.skipped:
        print(f"skipped  {name[:160]}: {first_line(reason)}")
    for name, reason in tally.failed:
        print(f"FAILED   {name[:160]}: {first_line(reason)}")
    print(f"{tally.passed} passed, {len(tally.failed)} failed, {len(tally.skipped)} skipped")
    return 1 if tally.failed else 0


def threaded(build):
    listed = subprocess.run(["meson", "introspect", "--tests", build], check=True, capture_output=True)
    for test in json.loads(listed.stdout):
        folder = pathlib.PurePath(test["cmd"][0]).parent.name
        if folder in THREADED:
            print(test["name"])


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "--threaded":
        threaded(arguments[1])
        return 0
    if len(arguments) == 1:
        return summarise(arguments[0])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
