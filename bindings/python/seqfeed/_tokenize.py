# SPDX-License-Identifier: MIT
"""From text files to a dataset of token ids."""
from __future__ import annotations

import glob
import itertools
import os
from typing import Any, Callable, Iterable, Iterator, List, Optional, Sequence, Union

from ._hint import meant
from ._pack import PackTotals, pack

BY = ("line", "paragraph", "file")
CHUNK = 1000  # pieces of text that a tokenizer gets at once

Encode = Callable[[List[str]], List[List[int]]]


def _files(inputs: Union[str, Sequence[str]]) -> List[str]:
    found: List[str] = []
    for pattern in [inputs] if isinstance(inputs, (str, os.PathLike)) else inputs:
        names = sorted(glob.glob(os.fspath(pattern), recursive=True))
        if not names:
            raise FileNotFoundError(f"no file {os.fspath(pattern)}")
        found += names
    return found


def _pieces(path: str, by: str) -> Iterator[str]:
    """The pieces of a file that hold anything."""
    with open(path, encoding="utf-8", errors="replace") as file:
        if by == "file":
            pieces: Iterable[str] = [file.read()]
        elif by == "line":
            pieces = file
        else:
            groups = itertools.groupby(file, key=lambda line: bool(line.strip()))
            pieces = ("".join(lines) for full, lines in groups if full)
        for piece in pieces:
            if piece.strip():
                yield piece.strip("\n")


def _encoder(tokenizer: Any) -> tuple[Encode, Optional[int]]:
    """(texts -> ids, pad id) of whatever the tokenizer is."""
    if isinstance(tokenizer, str) and tokenizer == "bytes":
        return lambda texts: [list(text.encode()) for text in texts], None
    if isinstance(tokenizer, str):
        hint = meant(tokenizer, ["bytes"])
        if hint and not os.path.exists(tokenizer):  # before a package is loaded or a network asked
            raise ValueError(f"tokenizer={tokenizer!r}: no name for transformers{hint}")
        from transformers import AutoTokenizer
        tokenizer = AutoTokenizer.from_pretrained(tokenizer)
    if hasattr(tokenizer, "encode_batch"):  # the tokenizers package
        padding = getattr(tokenizer, "padding", None) or {}
        return (lambda texts: [one.ids for one in tokenizer.encode_batch(texts)],
                padding.get("pad_id"))
    if hasattr(tokenizer, "pad_token_id"):  # transformers
        return lambda texts: tokenizer(texts)["input_ids"], tokenizer.pad_token_id
    if callable(tokenizer):
        return lambda texts: [tokenizer(text) for text in texts], None
    raise TypeError("tokenizer: a name, 'bytes', a function from text to ids, or a tokenizer of "
                    "transformers or tokenizers")


def tokenize(inputs: Union[str, Sequence[str]], *, tokenizer: Any,
             out: Union[str, os.PathLike[str]], by: str = "line", label: Optional[str] = None,
             **options: Any) -> PackTotals:
    """Tokenize text files and pack the result.

    inputs: paths or patterns.
    tokenizer: "bytes", a name for transformers.AutoTokenizer, a tokenizer of transformers or tokenizers,
    or a function from text to ids.
    out: the directory, absent or empty; force=True replaces a dataset.
    by: "line", "paragraph" or "file" is a sequence; empty pieces are left out.
    label: "file" makes the number of the file the label, and keeps its name beside it.
    Everything else goes to pack(), whose errors come from here too; FileNotFoundError: a pattern that
    matches nothing."""
    if by not in BY:
        raise ValueError(f"by={by!r}: 'line', 'paragraph' or 'file'{meant(by, BY)}")
    if label not in (None, "file"):
        raise ValueError(f"label={label!r}: None or 'file'{meant(label, ['file'])}")
    files = _files(inputs)
    encode, pad_id = _encoder(tokenizer)
    options.setdefault("pad_id", pad_id)
    if tokenizer == "bytes":
        options.setdefault("token_type", "u8")
    if label:
        options.setdefault("labels", [os.path.basename(path) for path in files])

    def rows() -> Iterator[dict[str, Any]]:
        for number, path in enumerate(files):
            pieces = _pieces(path, by)
            while chunk := list(itertools.islice(pieces, CHUNK)):
                for ids in encode(chunk):
                    yield {"tokens": ids, "label": number} if label else {"tokens": ids}

    return pack(rows(), out, **options)
