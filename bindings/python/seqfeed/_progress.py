# SPDX-License-Identifier: MIT
"""How far long work has come: a line that is redrawn on a terminal, a line each few seconds else."""
from __future__ import annotations

import sys
import time
from typing import Iterable, Iterator, Optional, TypeVar

Item = TypeVar("Item")


class Progress:
    """Counts what passes through watch(). `wanted` None: only where standard error is a terminal."""

    def __init__(self, what: str, total: Optional[int], wanted: Optional[bool]):
        self.what, self.total = what, total
        self.terminal = sys.stderr.isatty()
        self.wanted = self.terminal if wanted is None else wanted
        self.done = 0
        self.started = self.said = time.monotonic()

    def watch(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            yield item
            self.done += 1
            if self.wanted and self.done % 256 == 0:
                self._maybe()
        if self.wanted:
            self._say("\n")

    def _maybe(self) -> None:
        now = time.monotonic()
        if now - self.said >= (0.2 if self.terminal else 5.0):
            self.said = now
            self._say("" if self.terminal else "\n")

    def _say(self, end: str) -> None:
        rate = self.done / max(1e-9, time.monotonic() - self.started)
        share = f" of {self.total} ({100 * self.done // max(1, self.total)} %)" if self.total else ""
        start = "\r" if self.terminal else ""
        print(f"{start}{self.what}: {self.done}{share}, {rate:.0f}/s", end=end, file=sys.stderr,
              flush=True)
