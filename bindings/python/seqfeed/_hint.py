# SPDX-License-Identifier: MIT
"""What a word that is not known was meant to be, said as the daemon says it of its settings."""
from __future__ import annotations

from typing import Iterable


def meant(word: object, known: Iterable[str], near: float = 0.7) -> str:
    """", did you mean X", or nothing where no word is near enough."""
    import difflib  # for errors only
    words = {each.lower(): each for each in known}
    found = difflib.get_close_matches(str(word).lower(), words, 1, near)
    return f", did you mean {words[found[0]]!r}" if found else ""
