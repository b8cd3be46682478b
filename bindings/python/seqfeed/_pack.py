# SPDX-License-Identifier: MIT
"""Datasets written from Python: lists, numpy, Hugging Face datasets, or whatever gives rows."""
from __future__ import annotations

import collections.abc
import itertools
import os
import re
import sys
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Union

from . import _seqfeed
from ._attach import whole
from ._hint import meant
from ._progress import Progress

LOOK = 256  # rows that decide what columns there are
NARROW = ((1 << 16, "u16"), (1 << 24, "u24"), (1 << 32, "u32"))
PRIMARY = ("tokens", "input_ids")
# Type of tokens -> the least and the largest of the whole numbers.
TYPES: Dict[str, Optional[tuple[int, int]]] = {
    "u8": (0, 2**8 - 1), "u16": (0, 2**16 - 1), "u24": (0, 2**24 - 1), "u32": (0, 2**32 - 1),
    "i32": (-2**31, 2**31 - 1), "i64": (-2**63, 2**63 - 1), "f16": None, "bf16": None, "f32": None}
BLOCK_LEAST, BLOCK_MOST = 4096, 16 << 20
FLOATS = {"float16": "f16", "float32": "f32", "float64": "f32", "bfloat16": "bf16"}


class PackTotals(NamedTuple):
    sequences: int
    tokens: int
    bytes: int
    shards: int


class _Column(NamedTuple):
    source: Any  # key in a row
    name: str
    kind: str
    type: str
    width: int


# --- rows ----------------------------------------------------------------------------------------

def _rows(data: Any) -> Any:
    """The rows of whatever was given, to iterate over; again where the data can be."""
    if isinstance(data, Mapping):
        if data and all(hasattr(part, "features") for part in data.values()):
            raise ValueError(f"these are several datasets: pass one of them, as data[{next(iter(data))!r}]")
        return _Table(data)
    if hasattr(data, "with_format") and hasattr(data, "features"):
        try:
            import numpy  # noqa: F401  arrays are taken whole, lists value by value
            return data.with_format("numpy")
        except ImportError:
            return data
    return data


class _Table:
    """A mapping of columns as rows."""

    def __init__(self, columns: Mapping[str, Sequence[Any]]):
        self.columns = columns
        counts = {name: len(column) for name, column in columns.items()}
        if len(set(counts.values())) > 1:
            raise ValueError(f"the columns differ in length: {counts}")
        self.count = next(iter(counts.values()), 0)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        for values in zip(*self.columns.values()):
            yield dict(zip(self.columns, values))


def _get(row: Any, source: Any) -> Any:
    """Of a row; tensors of torch and arrays of JAX as numpy sees them."""
    value = row if source is None else row[source]
    as_array = getattr(value, "__array__", None)
    if as_array is None:
        return value
    array = as_array()
    return array if array.shape else array.item()


def _values(looked: List[Any], source: Any) -> List[Any]:
    """Of all rows; the error names the row that has none."""
    values: List[Any] = []
    for row in looked:
        try:
            values.append(_get(row, source))
        except KeyError as error:
            raise KeyError(f"row {len(values)} has no {error}") from None
    return values


def _length(value: Any) -> Optional[int]:
    """How many values, or None of a single number."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return shape[0] if shape else None
    return len(value) if isinstance(value, collections.abc.Sized) else None


# --- what the columns are ------------------------------------------------------------------------

def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, (str, bytes, bytearray, dict))


def _innermost(value: Any) -> Any:
    """Some number of a nested value, or None when it is empty."""
    while not hasattr(value, "dtype") and isinstance(value, (list, tuple)):
        value = next((item for item in value if _length(item) != 0), None) if value else None
    return value


def _type(values: Iterable[Any]) -> str:
    for value in values:
        inner = _innermost(value)
        word = str(getattr(inner, "dtype", ""))
        if word in FLOATS:
            return FLOATS[word]
        if isinstance(inner, float):
            return "f32"
    return "i64"


def _width(value: Any) -> int:
    """Values of one element: 1, or those of a frame."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        width = 1
        for size in shape[1:]:
            width *= size
        return width
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], (list, tuple)):
        return len(value[0]) * _width(value[0])
    return 1


def _names(first: Any, columns: Optional[Mapping[Any, str]]) -> Dict[Any, str]:
    """Key in the rows -> name in the dataset, the primary column first."""
    if not isinstance(first, Mapping):
        if columns:
            raise ValueError("columns= needs rows that are mappings")
        return {None: "tokens"}
    if columns is not None and not isinstance(columns, Mapping):
        raise TypeError("columns: a mapping from keys of the rows to names is wanted, as "
                        f"{{'input_ids': 'tokens'}}, not {columns!r}")
    names = dict(columns) if columns else {key: key for key in first}
    missing = [key for key in names if key not in first]
    if missing:
        raise ValueError(f"the rows have no {missing[0]!r}; they have {sorted(map(str, first))}"
                         f"{meant(missing[0], map(str, first))}")
    primary = next((key for key, name in names.items() if name == "tokens"), None)
    if primary is None:
        primary = next((key for key in PRIMARY if key in names), None)
    if primary is None and columns:
        known = next((key for key in PRIMARY if key in first), "that")
        slip = next((name for name in names.values() if meant(name, ["tokens"])), None)
        hint = f"{slip!r}{meant(slip, ['tokens'])}" if slip else f"add {known!r}: 'tokens'"
        raise ValueError(f"columns maps nothing to 'tokens': {hint}")
    if primary is None:
        raise ValueError(f"none of {sorted(map(str, first))} is called tokens or input_ids: say "
                         "which one is, as columns={'that': 'tokens'}")
    return {primary: "tokens", **{key: name for key, name in names.items() if key != primary}}


def _column(source: Any, name: str, looked: List[Any], lengths: List[int]) -> _Column:
    """A column beside the primary one, from what it holds in the rows that were looked at."""
    values = _values(looked, source)
    counts = [_length(value) for value in values]
    if any(count is None for count in counts) and any(count is not None for count in counts):
        raise ValueError(f"column {name}: numbers in some rows, lists in others")
    if counts[0] is None:
        kind, width = "sequence", 1
    else:
        kind = "token" if counts == lengths else "ragged"
        width = next((_width(value) for value, count in zip(values, counts) if count), 1)
    return _Column(source, name, kind, _type(values), width)


def _schema(looked: List[Any], columns: Optional[Mapping[Any, str]], token_type: str) -> List[_Column]:
    names = _names(looked[0], columns)
    if _is_text(_get(looked[0], next(iter(names)))):
        raise ValueError("the sequences hold no numbers: seqfeed.tokenize() makes numbers of text files")
    left_out = [str(key) for key in names if _is_text(_get(looked[0], key))]
    if left_out:
        if columns:
            raise ValueError(f"column {left_out[0]} holds no numbers")
        print(f"seqfeed: left out, because they are no numbers: {', '.join(left_out)}",
              file=sys.stderr)
    kept = {key: name for key, name in names.items() if str(key) not in left_out}
    primary = next(iter(kept))
    values = _values(looked, primary)
    lengths = [_length(value) or 0 for value in values]
    if token_type == "auto" and _type(values) != "i64":
        token_type = _type(values)
    width = next((_width(value) for value, length in zip(values, lengths) if length), 1)
    return [_Column(primary, "tokens", "tokens", token_type, width)] + [
        _column(key, name, looked, lengths) for key, name in list(kept.items())[1:]]


def _extremes(value: Any) -> tuple[int, int]:
    if hasattr(value, "min") and hasattr(value, "size"):
        return (int(value.min()), int(value.max())) if value.size else (0, 0)
    return (min(value), max(value)) if len(value) else (0, 0)


def _narrowest(rows: Iterable[Any], source: Any, progress: Progress) -> str:
    low = high = 0
    for number, row in enumerate(progress.watch(rows)):
        try:
            least, most = _extremes(_get(row, source))
            low, high = min(low, least), max(high, most)
        except KeyError as error:
            raise KeyError(f"row {number} has no {error}") from None
        except (ValueError, TypeError) as error:
            raise type(error)(f"row {number}: column tokens: {error}") from None
    if low < 0:
        return "i64"
    return next((word for limit, word in NARROW if high < limit), "i64")


def _label_names(data: Any, column: _Column) -> Optional[List[str]]:
    features = getattr(data, "features", {})
    feature: Any = features.get(column.source) if isinstance(features, Mapping) else None
    return list(feature.names) if getattr(feature, "names", None) else None


# --- writing -------------------------------------------------------------------------------------

def pack(data: Any, out: Union[str, os.PathLike[str]], *,
         columns: Optional[Mapping[Any, str]] = None, token_type: str = "auto",
         pad_id: Optional[int] = None, labels: Optional[Sequence[str]] = None, level: int = 9,
         block: int = 256 << 10, shard: int = 256 << 20, jobs: Optional[int] = None,
         force: bool = False, progress: Optional[bool] = None) -> PackTotals:
    """Write a dataset of sequences to a directory.

    data: a Hugging Face dataset, a mapping of columns, or anything that gives rows: mappings, or the
    sequences themselves as lists or arrays (two-dimensional ones are frames of numbers).
    out: the directory, absent or empty.
    columns: key in the rows -> name in the dataset; what is called "tokens" is the sequence. Without
    it all keys keep their names, tokens or input_ids is the sequence, and text is left out.
    token_type: u8 u16 u24 u32 i32 i64 f16 bf16 f32, or auto: by a first pass over data that can be
    read twice, else u32; floats stay floats.
    pad_id: what padding is where the feed says nothing else; kept with the dataset. None: 0.
    labels: names of the labels 0, 1, ...; else those of a Hugging Face ClassLabel.
    level: of zstd, 1 to 22. block, shard: bytes before compression; a block (4096 to 16 MiB) is what is
    read and shuffled at a time, a shard a file.
    jobs: threads that compress, else one for each CPU; the files are the same for any number.
    force: replace the dataset that is there.
    progress: tell of it on standard error; None: where that is a terminal.

    Numbers become per-sequence columns, lists as long as the tokens per-token columns, others ragged
    ones, as the first 256 rows have it; what does not fit later is an error that names its row.
    Returns the totals: sequences, tokens, bytes, shards. Nothing of `data` is kept.
    Raises ValueError, TypeError or KeyError for rows or options that do not fit, FileExistsError or OSError
    for `out`; nothing is left there then."""
    _check_options(token_type, level, block, shard, jobs)
    rows = _rows(data)
    once = iter(rows) is rows
    stream = iter(rows)
    looked = list(itertools.islice(stream, LOOK))
    if not looked:
        raise ValueError("there are no rows")
    schema = _schema(looked, columns, token_type)
    total = len(rows) if hasattr(rows, "__len__") else None
    if schema[0].type == "auto":
        word = "u32" if once else _narrowest(rows, schema[0].source,
                                             Progress("looking", total, progress))
        schema[0] = schema[0]._replace(type=word)
    if jobs is None:
        jobs = len(os.sched_getaffinity(0))
    limits = TYPES[schema[0].type]
    if pad_id is not None and limits:
        whole(f"pad_id of {schema[0].type} tokens", pad_id, *limits)
    shape = [(column.name, column.kind, column.type, column.width) for column in schema]
    try:
        writer = _seqfeed.Writer(os.fspath(out), shape, pad_id, level, block, shard, jobs, force)
    except FileExistsError as error:  # the sentence is that of the tool
        raise FileExistsError(error.errno, str(error.strerror).replace("--force", "force=True")) from None
    try:
        names = labels or next(filter(None, (_label_names(data, column) for column in schema)), None)
        if names:
            writer.set_labels(list(names))
        _write(writer, schema, itertools.chain(looked, stream), Progress("packing", total, progress))
        return PackTotals(*writer.finish())
    finally:
        writer.abort()


def _check_options(token_type: str, level: int, block: int, shard: int, jobs: Optional[int]) -> None:
    """As the tool checks them."""
    if token_type != "auto" and token_type not in TYPES:
        short = re.sub("uint|int|float", lambda word: word[0][0], str(token_type))  # numpy's words are near too
        raise ValueError(f"token_type {token_type!r}: one of auto, {', '.join(TYPES)} is wanted"
                         f"{meant(short, ['auto', *TYPES], 0.6)}")
    whole("level", level, 1, 22)
    whole("block", block, BLOCK_LEAST, BLOCK_MOST)
    whole("shard", shard, BLOCK_LEAST)
    if jobs is not None:
        whole("jobs", jobs, 1, 1024)


def _write(writer: Any, schema: List[_Column], rows: Iterable[Any], progress: Progress) -> None:
    sources = [column.source for column in schema]
    for number, row in enumerate(progress.watch(rows)):
        try:
            writer.add(tuple(_get(row, source) for source in sources))
        except KeyError as error:
            raise KeyError(f"row {number} has no {error}") from None
        except (ValueError, TypeError) as error:
            raise type(error)(f"row {number}: {error}") from None
