# SPDX-License-Identifier: MIT
"""A private daemon for notebooks, tests and scripts."""
from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import warnings
import weakref
from typing import Any, Mapping, Optional, Union

# Tells the socket, then lasts as long as our end of its standard input.
HOLD = 'printf "%s\\n" "$SEQFEED_SOCKET"; exec cat >/dev/null'


# The processes whose standard input we hold.
_held: weakref.WeakSet[subprocess.Popen[str]] = weakref.WeakSet()


def _let_go() -> None:
    """In a forked child: else the daemon would last as long as the child."""
    for process in _held:
        if process.stdin:
            process.stdin.close()


os.register_at_fork(after_in_child=_let_go)


class DaemonError(RuntimeError):
    """The daemon did not start; the text is what it said."""


def find_program(name: str) -> str:
    """`seqfeed` or `seqfeedd`: of this installation, of this build, else in PATH."""
    package = pathlib.Path(__file__).resolve().parent
    places = [pathlib.Path(sysconfig.get_path("scripts")), pathlib.Path(sys.executable).parent]
    if sysconfig.get_preferred_scheme("user") in sysconfig.get_scheme_names():
        places.append(pathlib.Path(
            sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user"))))
    if len(package.parents) > 2 and (package.parents[2] / "meson-info").is_dir():
        places.insert(0, package.parents[2])
    for place in places:
        if os.access(place / name, os.X_OK) and (place / name).is_file():
            return str(place / name)
    found = shutil.which(name)
    if not found:
        raise DaemonError(f"no program {name} beside {sys.executable} or in PATH")
    return found


def _absolute(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with paths of datasets made absolute: the file will lie elsewhere."""
    feeds = {}
    for name, feed in config.get("feeds", {}).items():
        feeds[name] = dict(feed)
        if "dataset" in feed:
            feeds[name]["dataset"] = os.path.abspath(os.fspath(feed["dataset"]))
        if "datasets" in feed:
            feeds[name]["datasets"] = {
                source: {**each, "path": os.path.abspath(os.fspath(each["path"]))}
                for source, each in feed["datasets"].items()}
    return {**config, "feeds": feeds}


def _end(process: subprocess.Popen[str], folder: str, owner: int) -> None:
    if os.getpid() != owner:
        return  # a forked child is not the one to end it
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait(15)
    if process.stdout:
        process.stdout.close()
    shutil.rmtree(folder, ignore_errors=True)


class Daemon:
    """A seqfeedd of one's own, on a socket of its own.

        with seqfeed.Daemon({"feeds": {"train": {"dataset": "corpus"}}}) as daemon:
            for batch in seqfeed.attach("train", socket=daemon.socket):
                ...

    config: a path, or what would stand in the file. It ends with the `with` block, with stop(), when
    the object is let go, and when this process dies in whatever way. A forked child does not end it.
    DaemonError: it did not start, in its words. What it warns of at start is a Python warning too."""

    def __init__(self, config: Union[str, os.PathLike[str], Mapping[str, Any]]):
        folder = tempfile.mkdtemp(prefix="seqfeed-py-")
        self._log = pathlib.Path(folder, "log")
        if isinstance(config, Mapping):
            path = pathlib.Path(folder, "config.yaml")
            path.write_text(json.dumps(_absolute(config), indent=1))
        else:
            path = pathlib.Path(config)
        tool = find_program("seqfeed")
        with open(self._log, "wb") as log:
            # A session of its own: Ctrl-C at this terminal is not for the daemon.
            self._process = subprocess.Popen(
                [tool, "run", str(path), "--", "/bin/sh", "-c", HOLD], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
        _held.add(self._process)
        self._finalizer = weakref.finalize(self, _end, self._process, folder, os.getpid())
        assert self._process.stdout
        self.socket: str = self._process.stdout.readline().strip()
        if not self.socket:
            self._process.wait()
            said = self.log.strip()
            self.stop()
            raise DaemonError(said or f"seqfeed run ended with {self._process.returncode}")
        for line in self.log.splitlines():
            if line.startswith("seqfeedd: warning: "):
                warnings.warn(line.removeprefix("seqfeedd: warning: "), stacklevel=2)

    @property
    def log(self) -> str:
        """What the daemon has said so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def stop(self) -> Optional[int]:
        """End it; again is harmless."""
        self._finalizer()
        return self._process.returncode

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<seqfeed.Daemon {self.socket}>"
