# SPDX-License-Identifier: MIT
"""Datasets on disk, read by number without a daemon."""
from __future__ import annotations

import os
from typing import Any, Dict, Iterator, List, NamedTuple, Union, overload

from . import _seqfeed

# On disk -> letter of the struct module and word of numpy. u24 is handed out as four bytes.
LETTERS = {"u8": ("B", "uint8"), "u16": ("H", "uint16"), "u24": ("I", "uint32"),
           "u32": ("I", "uint32"), "i32": ("i", "int32"), "i64": ("q", "int64"),
           "f16": ("e", "float16"), "bf16": ("H", "uint16"), "f32": ("f", "float32")}


class Column(NamedTuple):
    name: str
    kind: str  # tokens, token, sequence, ragged
    type: str  # u8 u16 u24 u32 i32 i64 f16 bf16 f32
    width: int


class Dataset:
    """A packed dataset: dataset[n] is a dictionary of the n-th sequence's columns, in the order in
    which they were packed. Values are read-only numpy arrays where numpy is, [length] or, of columns
    wider than 1, [length, width], else memoryviews of bytes that are the caller's; one value per sequence
    comes as a number. u24 comes as uint32, bf16 as its bits (uint16) unless ml_dtypes is there.

    One thread at a time; every thread may open its own. FileNotFoundError, OSError or ValueError: it is
    no dataset, or damaged; the sentence names file and block. IndexError: there is no such sequence."""

    def __init__(self, path: Union[str, os.PathLike[str]]):
        self._inner = _seqfeed.Dataset(os.fspath(path))
        self.path = os.fspath(path)
        self.columns = [Column(*column) for column in self._inner.columns]
        self.labels: List[str] = self._inner.labels
        identity, self._sequences, self.tokens, self.shards, self.blocks, self.pad_id = \
            self._inner.facts
        self.id: str = identity.hex()

    def __len__(self) -> int:
        return self._sequences

    @overload
    def __getitem__(self, index: int) -> Dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> List[Dict[str, Any]]: ...

    def __getitem__(self, index: Union[int, slice]) -> Union[Dict[str, Any], List[Dict[str, Any]]]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        values = self._inner.read(number)
        return {column.name: _values(column, bytes_) for column, bytes_ in zip(self.columns, values)}

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        for number in range(len(self)):
            yield self[number]

    def __repr__(self) -> str:
        return f"<seqfeed.Dataset {self.path}: {len(self)} sequences, {self.tokens} tokens>"


def _values(column: Column, data: bytes) -> Any:
    letter, word = LETTERS[column.type]
    single = column.kind == "sequence" and column.width == 1
    try:
        import numpy
    except ImportError:
        code: Any = letter if letter != "e" else "H"
        view = memoryview(data).cast(code)
        return view[0] if single else view
    array = numpy.frombuffer(data, word)
    if column.type == "bf16":
        try:
            import ml_dtypes
            array = array.view(ml_dtypes.bfloat16)
        except ImportError:
            pass
    if single:
        return array[0].item()
    return array if column.width == 1 else array.reshape(-1, column.width)
