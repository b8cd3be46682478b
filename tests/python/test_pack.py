# SPDX-License-Identifier: MIT
"""pack, tokenize, Dataset, and the private daemon."""
import array
import ctypes
import json
import os
import pathlib
import re
import subprocess
import sys

import harness
import numpy
import pytest
import seqfeed


def test_rows_come_back(tmp_path):
    draw = numpy.random.default_rng(3)
    rows = [{"input_ids": draw.integers(0, 70000, n).tolist(), "label": int(n % 3),
             "score": n / 8, "type": [i % 2 for i in range(n)], "spans": list(range(n % 4)),
             "text": "left out"} for n in draw.integers(0, 30, 500).tolist()]
    seen = []
    assert seqfeed.pack(rows, tmp_path / "out").sequences == 500
    dataset = seqfeed.Dataset(tmp_path / "out")
    assert [(column.name, column.kind, column.type) for column in dataset.columns] == [
        ("tokens", "tokens", "u24"), ("label", "sequence", "i64"), ("score", "sequence", "f32"),
        ("type", "token", "i64"), ("spans", "ragged", "i64")]
    assert len(dataset) == 500 and dataset.tokens == sum(len(row["input_ids"]) for row in rows)
    for number in [*range(500), -1]:
        seen = dataset[number]
        assert seen["tokens"].tolist() == rows[number]["input_ids"]
        assert (seen["label"], seen["score"]) == (rows[number]["label"], rows[number]["score"])
        assert seen["type"].tolist() == rows[number]["type"]
        assert seen["spans"].tolist() == rows[number]["spans"]
    with pytest.raises(IndexError):
        dataset[500]
    assert [each["label"] for each in dataset[2:5]] == [row["label"] for row in rows[2:5]]
    harness.tool("verify", tmp_path / "out")


def test_a_block_that_cannot_be_read_is_named(tmp_path):
    """As verify names it: by its number in its file."""
    draw = numpy.random.default_rng(5)
    out = tmp_path / "out"
    seqfeed.pack([draw.integers(0, 60000, 500) for _ in range(400)], out, block=4096, shard=1 << 16)
    dataset = seqfeed.Dataset(out)
    shards = json.loads((out / "dataset.json").read_text())["shards"]
    first = shards[0]["sequences"]
    with open(out / shards[1]["path"], "r+b") as file:
        file.seek(4096 + 100)
        file.write(bytes(100))
        file.flush()
        with pytest.raises(ValueError, match=rf"/{shards[1]['path']}: block 0 at offset 4096 is damaged: "):
            dataset[first]
        file.truncate(4096 + 100)
        with pytest.raises(OSError, match=rf"/{shards[1]['path']}: block 0 at offset 4096 cannot be read: "
                                          "the file has become shorter"):
            dataset[first]
    assert len(dataset[first - 1]["tokens"]) == 500  # the others are there


def test_it_is_what_the_tool_writes(tmp_path):
    rows = harness.random_rows(300, seed=9)
    seqfeed.pack(rows, tmp_path / "python")
    harness.pack(tmp_path / "tool", rows)
    one, other = (seqfeed.Dataset(tmp_path / name) for name in ("python", "tool"))
    assert all(a["tokens"].tolist() == b["tokens"].tolist() and a["label"] == b["label"]
               for a, b in zip(one, other))
    assert one.columns[0] == other.columns[0]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "uint64"])
def test_arrays_of_every_type(tmp_path, dtype):
    rows = [numpy.arange(n, dtype=dtype) for n in range(1, 100)]
    seqfeed.pack(rows, tmp_path / "out")
    dataset = seqfeed.Dataset(tmp_path / "out")
    assert all(numpy.array_equal(each["tokens"], row) for each, row in zip(dataset, rows))


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float32"])
def test_arrays_may_be_empty_from_the_first_row_on(tmp_path, dtype):
    rows = [{"tokens": numpy.arange(n, dtype=dtype), "spans": numpy.arange(2 * spans, dtype="int32")}
            for n, spans in ((0, 0), (0, 1), (3, 0), (0, 2))]
    seqfeed.pack(rows, tmp_path / "out")
    dataset = seqfeed.Dataset(tmp_path / "out")
    assert [each["tokens"].tolist() for each in dataset] == [row["tokens"].tolist() for row in rows]
    assert [each["spans"].tolist() for each in dataset] == [row["spans"].tolist() for row in rows]


@pytest.mark.parametrize("word, dtype", [("auto", "float32"), ("auto", "float16"), ("f16", "float32"),
                                         ("f32", "float64"), ("bf16", "float32")])
def test_float_frames(tmp_path, word, dtype):
    draw = numpy.random.default_rng(1)
    rows = [draw.normal(size=(n, 3)).astype(dtype) for n in range(1, 40)]
    rows[0][0] = [1e-7, 65519.9, -0.0]
    seqfeed.pack(rows, tmp_path / "out", token_type=word)
    dataset = seqfeed.Dataset(tmp_path / "out")
    assert dataset.columns[0].width == 3
    for each, row in zip(dataset, rows):
        if word == "bf16":
            got = (numpy.asarray(each["tokens"]).view(numpy.uint16).astype(numpy.uint32) << 16).view("f4")
            assert numpy.allclose(got, row, rtol=2 ** -8)
        else:
            narrow = "float16" if "16" in word or dtype == "float16" else "float32"
            assert numpy.array_equal(each["tokens"], row.astype(narrow))


def test_half_floats_round_as_numpy_does(tmp_path):
    bits = numpy.arange(0, 1 << 32, 65521, dtype=numpy.uint64).astype(numpy.uint32)
    values = bits.view(numpy.float32)
    values = values[~numpy.isnan(values)]
    with numpy.errstate(over="ignore"):
        wanted = values.astype(numpy.float16)
    seqfeed.pack(values.reshape(1, -1), tmp_path / "out", token_type="f16")
    assert numpy.array_equal(seqfeed.Dataset(tmp_path / "out")[0]["tokens"], wanted)


@pytest.mark.parametrize("rows, options, said", [
    ([[1, 2], [3, -1]], {"token_type": "u16"}, "row 1: column tokens: -1 does not fit u16"),
    ([[1], [70000]], {"token_type": "u16"}, "row 1: column tokens: 70000 does not fit u16"),
    ([[1], [1 << 70]], {"token_type": "i64"}, "does not fit i64"),
    ([[1], ["x"]], {"token_type": "u16"}, "row 1: column tokens: 'x' is no number"),
    ([[1], ["x"]], {}, "row 1: "),
    ([{"a": [1]}], {}, "called tokens or input_ids"),
    ([{"tokens": [1]}], {"columns": {"b": "tokens"}}, "no 'b'"),
    ([{"tokens": [1], "Bad": 1}], {}, "cannot name a column"),
    ([], {}, "no rows"),
    ({"tokens": [[1], [2]], "label": [1]}, {}, "differ in length"),
    ([[1.5]], {"token_type": "u16"}, "1.5 does not fit u16"),
    ([[1], None], {"token_type": "u16"}, "row 1: column tokens: "),
    ([{"tokens": [1], "label": 1}, {"tokens": [2], "label": None}], {}, "row 1: column label: "),
    ([{"tokens": [1]}, {"label": 1}], {"token_type": "u16"}, "row 1 has no 'tokens'"),
    ([{"tokens": [1]}, {"label": 1}], {}, "has no 'tokens'"),
    ([{"input_ids": [1], "label": 1}], {"columns": {"label": "label"}}, "add 'input_ids': 'tokens'"),
    ([[1]], {"token_type": "int64"}, "one of auto, u8, u16"),
    ([[1]], {"block": 1}, "block must be a whole number from 4096 to 16777216, not 1"),
    ([[1]], {"block": 1 << 30}, "block must be"), ([[1]], {"shard": -5}, "shard must be"),
    ([[1]], {"level": 99}, "level must be a whole number from 1 to 22"), ([[1]], {"jobs": -1}, "jobs must be"),
    ([[1]], {"jobs": "2"}, "jobs must be"),
    ([[1]], {"token_type": "u16", "pad_id": 70000}, "pad_id of u16 tokens must be a whole number from 0 to 65535"),
    ([[1]], {"pad_id": -1}, "pad_id of u16 tokens"),
])
def test_what_does_not_fit_is_said(tmp_path, rows, options, said):
    with pytest.raises((ValueError, TypeError, KeyError), match=said):
        seqfeed.pack(rows, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


class PyBuffer(ctypes.Structure):
    """Py_buffer, to say of bytes what no honest exporter would."""
    _fields_ = [("buf", ctypes.c_void_p), ("obj", ctypes.c_void_p), ("len", ctypes.c_ssize_t),
                ("itemsize", ctypes.c_ssize_t), ("readonly", ctypes.c_int), ("ndim", ctypes.c_int),
                ("format", ctypes.c_char_p), ("shape", ctypes.POINTER(ctypes.c_ssize_t)),
                ("strides", ctypes.POINTER(ctypes.c_ssize_t)), ("suboffsets", ctypes.c_void_p),
                ("internal", ctypes.c_void_p)]


def buffer(kept, format_, item, raw):
    """A view of `raw` as items of so many bytes; `kept` holds what it points at."""
    one = ctypes.c_ssize_t * 1
    memory, shape, strides = ctypes.create_string_buffer(raw, len(raw)), one(len(raw) // item), one(item)
    made = PyBuffer(buf=ctypes.addressof(memory), len=len(raw), itemsize=item, readonly=1, ndim=1,
                    format=format_.encode(), shape=shape, strides=strides)
    kept += [memory, shape, strides, made]
    view = ctypes.pythonapi.PyMemoryView_FromBuffer
    view.restype = ctypes.py_object
    return view(ctypes.byref(made))


@pytest.mark.parametrize("format_, item, values", [
    ("l", 8, [1, -2]), ("@l", 8, [1, -2]), ("<l", 4, [1, -2, 3]), ("=l", 4, [1, -2, 3]),
    ("L", 8, [1, 2]), ("<L", 4, [1, 1 << 31]), ("<q", 8, [1, -2]), ("=i", 4, [-1, 2]), ("<h", 2, [-1, 2]),
    ("<b", 1, [-1, 2]), ("?", 1, [1, 0]), ("B", 1, [1, 255]), ("@Q", 8, [1, 2])])
def test_buffers_have_the_sizes_of_their_prefix(tmp_path, format_, item, values):
    kept = []
    raw = b"".join(value.to_bytes(item, "little", signed=value < 0) for value in values)
    seqfeed.pack([buffer(kept, format_, item, raw)], tmp_path / "out", token_type="i64")
    assert seqfeed.Dataset(tmp_path / "out")[0]["tokens"].tolist() == values


@pytest.mark.parametrize("token_type", ["f16", "f32", "i64", "u16"])
@pytest.mark.parametrize("format_, item", [
    ("ee", 4), ("e", 4), ("<e", 1), ("l", 4), ("@l", 4), ("<l", 8), ("=L", 8), ("q", 4), ("<q", 16), ("i", 8),
    ("f", 8), ("d", 4), ("2H", 4), ("xH", 3), ("T{<i:a:}", 4), (">i", 4), ("!H", 2), ("<", 4), ("", 4),
    ("<@i", 4), ("n", 8), ("c", 1), ("Zf", 8), ("w", 4)])
def test_buffers_that_lie_about_their_items_are_refused(tmp_path, token_type, format_, item):
    kept = []
    said = f"row 0: column tokens: a buffer of format '{re.escape(format_)}' with items of {item} bytes"
    for count in (1, 4096):
        with pytest.raises(TypeError, match=said):
            seqfeed.pack([buffer(kept, format_, item, bytes(item * count))], tmp_path / "out",
                         token_type=token_type)
        assert not (tmp_path / "out").exists()


def test_buffers_of_the_standard_library(tmp_path):
    rows = [array.array(code, [1, 2, 100]) for code in "bBhHiIlLqQ"]
    rows += [(type_ * 3)(1, 2, 100) for type_ in (ctypes.c_long, ctypes.c_ulong, ctypes.c_short)]
    rows += [numpy.array([1, 2, 100], dtype).data for dtype in ("i8", "u4", "int_", "longlong")]
    seqfeed.pack(rows, tmp_path / "out", token_type="i64")
    assert all(each["tokens"].tolist() == [1, 2, 100] for each in seqfeed.Dataset(tmp_path / "out"))
    with pytest.raises(TypeError, match="column tokens: .*byte order"):
        seqfeed.pack([numpy.array([1, 2], ">i4")], tmp_path / "big", token_type="i64")
    with pytest.raises(TypeError, match="column pairs: .*format"):
        seqfeed.pack([{"tokens": [1], "pairs": numpy.zeros(3, "i4,i4")}], tmp_path / "pairs")
    with pytest.raises(ValueError, match="row 1: column tokens: a value of 2"):
        seqfeed.pack([[1], numpy.array([1 << 63], "u8")], tmp_path / "large", token_type="i64")


def test_columns_and_iterators(tmp_path):
    table = {"ids": [[1, 2], [3]], "label": [0, 1], "more": [1, 2]}
    seqfeed.pack(table, tmp_path / "table", columns={"ids": "tokens", "label": "label"},
                 labels=["no", "yes"], pad_id=7)
    dataset = seqfeed.Dataset(tmp_path / "table")
    assert [column.name for column in dataset.columns] == ["tokens", "label"]
    assert dataset.labels == ["no", "yes"] and dataset.pad_id == 7
    assert seqfeed.pack(iter([[1], [2, 3]]), tmp_path / "stream").tokens == 3
    assert seqfeed.Dataset(tmp_path / "stream").columns[0].type == "u32"
    with pytest.raises((ValueError, OSError)):
        seqfeed.pack([[1]], tmp_path / "table")
    assert seqfeed.pack([[1]], tmp_path / "table", force=True).sequences == 1


def test_progress_is_told(tmp_path, capfd):
    seqfeed.pack([[1]] * 600, tmp_path / "out", progress=True)
    assert "packing: 600 of 600 (100 %)" in capfd.readouterr().err
    seqfeed.pack([[1]] * 600, tmp_path / "quiet")
    assert capfd.readouterr().err == ""


def test_text(tmp_path):
    (tmp_path / "a.txt").write_text("one two\n\nthree\n")
    (tmp_path / "b.txt").write_text("four\nfive\n\n\nsix")
    totals = seqfeed.tokenize([str(tmp_path / "*.txt")], tokenizer="bytes", out=tmp_path / "out",
                              label="file")
    dataset = seqfeed.Dataset(tmp_path / "out")
    assert [bytes(each["tokens"]) for each in dataset] == [b"one two", b"three", b"four", b"five", b"six"]
    assert [each["label"] for each in dataset] == [0, 0, 1, 1, 1]
    assert dataset.labels == ["a.txt", "b.txt"] and dataset.columns[0].type == "u8"
    assert totals.sequences == 5
    seqfeed.tokenize(str(tmp_path / "b.txt"), out=tmp_path / "words", by="paragraph",
                     tokenizer=lambda text: [len(word) for word in text.split()])
    assert [list(each["tokens"]) for each in seqfeed.Dataset(tmp_path / "words")] == [[4, 4], [3]]
    with pytest.raises(FileNotFoundError):
        seqfeed.tokenize("nowhere/*.txt", tokenizer="bytes", out=tmp_path / "no")


def slip(tmp_path, **options):
    (tmp_path / "a.txt").write_text("one\n")
    return lambda: seqfeed.tokenize(str(tmp_path / "a.txt"), out=tmp_path / "out",
                                    **{"tokenizer": "bytes", **options})


@pytest.mark.parametrize("options, hint", [
    ({"tokenizer": "byte"}, "tokenizer='byte'.*did you mean 'bytes'"),
    ({"tokenizer": "Bytes"}, "did you mean 'bytes'"),
    ({"by": "lines"}, "did you mean 'line'"),
    ({"by": "Paragraph"}, "did you mean 'paragraph'"),
    ({"label": "files"}, "did you mean 'file'"),
    ({"token_type": "uint16"}, "did you mean 'u16'"),
    ({"token_type": "U8"}, "did you mean 'u8'"),
    ({"token_type": "bfloat16"}, "did you mean 'bf16'"),
    ({"token_type": "atuo"}, "did you mean 'auto'"),
])
def test_what_a_slip_was_meant_to_be_is_said(tmp_path, monkeypatch, options, hint):
    monkeypatch.setitem(sys.modules, "transformers", None)  # nothing is loaded or asked for before
    with pytest.raises(ValueError, match=hint):
        slip(tmp_path, **options)()
    assert not (tmp_path / "out").exists()


def test_names_that_are_near_nothing_are_not_guessed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    for name in ("gpt2", "t5-base", "google/byt5-small", str(tmp_path)):
        with pytest.raises(ImportError):
            slip(tmp_path, tokenizer=name)()
    with pytest.raises(ValueError, match="paragraph' or 'file'$"):
        slip(tmp_path, by="sentence")()


@pytest.mark.parametrize("columns, error, hint", [
    ({"ids": "token"}, ValueError, "maps nothing to 'tokens': 'token', did you mean 'tokens'"),
    ({"ids": "words"}, ValueError, "maps nothing to 'tokens': add 'that': 'tokens'"),
    ({"id": "tokens"}, ValueError, "the rows have no 'id'; .*did you mean 'ids'"),
    (["ids"], TypeError, "columns: a mapping .*'input_ids': 'tokens'"),
])
def test_columns_that_are_a_slip_are_told(tmp_path, columns, error, hint):
    with pytest.raises(error, match=hint):
        seqfeed.pack([{"ids": [1], "label": 1}], tmp_path / "out", columns=columns)


def test_a_private_daemon(corpus):
    with seqfeed.Daemon({"feeds": {"train": {"dataset": corpus[1], "batch": {"size": 16}}}}) as daemon:
        feed = seqfeed.attach("train", socket=daemon.socket)
        assert sum(batch.rows for batch in feed) == 203
        assert "fetch:" in daemon.log
    assert not os.path.exists(daemon.socket)
    daemon.stop()
    with pytest.raises(seqfeed.DaemonError, match="sise"):
        seqfeed.Daemon({"feeds": {"train": {"dataset": corpus[1], "batch": {"sise": 16}}}})


def test_what_a_private_daemon_warns_of_is_a_python_warning(tmp_path):
    seqfeed.pack({"tokens": [[1, 2, 3]], "labels": [[-100, 2, 3]]}, tmp_path / "sft")
    with pytest.warns(UserWarning, match="per-token column 'labels', which hf_causal_lm does not use"):
        seqfeed.Daemon({"feeds": {"train": {"dataset": tmp_path / "sft", "tensors": "hf_causal_lm"}}}).stop()


def test_a_private_daemon_ends_with_its_process(corpus, tmp_path):
    config = harness.one_feed(tmp_path / "c.yaml", corpus[1])
    code = ("import os, seqfeed, signal\n"
            f"daemon = seqfeed.Daemon({str(config)!r})\n"
            "print(daemon.socket, flush=True)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    socket = pathlib.Path(ran.stdout.strip())
    harness.wait_until(lambda: not socket.exists(), "the daemon is still there")


def test_a_hugging_face_dataset(tmp_path):
    datasets = pytest.importorskip("datasets", reason="no datasets here (Hugging Face)")
    rows = harness.random_rows(100, seed=4)
    features = datasets.Features({
        "input_ids": datasets.Sequence(datasets.Value("int32")),
        "label": datasets.ClassLabel(names=[f"class {number}" for number in range(10)]),
        "text": datasets.Value("string")})
    whole = datasets.Dataset.from_dict({"input_ids": [row["tokens"] for row in rows],
                                        "label": [row["label"] for row in rows],
                                        "text": ["left out"] * 100}, features=features)
    stream = whole.to_iterable_dataset()
    for number, data in enumerate((whole, whole.select(range(50)), stream)):
        seqfeed.pack(data, tmp_path / str(number), columns={"input_ids": "tokens", "label": "label"})
        packed = seqfeed.Dataset(tmp_path / str(number))
        assert [list(each["tokens"]) for each in packed] == [row["tokens"] for row in rows[:len(packed)]]
        assert [each["label"] for each in packed] == [row["label"] for row in rows[:len(packed)]]
        assert len(packed) == (100, 50, 100)[number]
        assert packed.labels == [f"class {number}" for number in range(10)]
    assert [column.name for column in packed.columns] == ["tokens", "label"]


class Foreign:
    """What tensors of torch and arrays of JAX have in common."""

    def __init__(self, values):
        self.values = numpy.array(values)
        self.shape, self.dtype = self.values.shape, self.values.dtype

    def __array__(self, dtype=None, copy=None):
        return self.values

    def __len__(self):
        return len(self.values)

    def __iter__(self):
        return map(Foreign, self.values)  # its numbers are of its own kind too


def test_tensors_of_others_are_taken(tmp_path):
    rows = [{"input_ids": Foreign([5, 6, 70000]), "label": Foreign(2), "frames": Foreign([[0.5, 1], [2, 3]])},
            {"input_ids": Foreign([7]), "label": Foreign(0), "frames": Foreign([[4, 5.5]])}]
    seqfeed.pack(rows, tmp_path / "out")
    first, second = seqfeed.Dataset(tmp_path / "out")
    assert first["tokens"].tolist() == [5, 6, 70000] and second["tokens"].tolist() == [7]
    assert (first["label"], second["label"]) == (2, 0)
    assert first["frames"].tolist() == [[0.5, 1], [2, 3]] and second["frames"].tolist() == [[4, 5.5]]
    seqfeed.pack(Foreign([[1, 2], [3, 4]]), tmp_path / "rows")
    assert [each["tokens"].tolist() for each in seqfeed.Dataset(tmp_path / "rows")] == [[1, 2], [3, 4]]


@pytest.mark.parametrize("rows", [["some", "text"], [{"input_ids": "some", "label": 1}], [{"tokens": "text"}]])
def test_text_as_sequences_is_refused(tmp_path, rows):
    with pytest.raises(ValueError, match="seqfeed.tokenize"):
        seqfeed.pack(rows, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_dataset_that_is_there_is_replaced_on_demand(tmp_path):
    seqfeed.pack([[1]], tmp_path / "out")
    with pytest.raises(FileExistsError, match="force=True"):
        seqfeed.pack([[2]], tmp_path / "out")
    assert seqfeed.Dataset(tmp_path / "out")[0]["tokens"].tolist() == [1]
    seqfeed.pack([[2]], tmp_path / "out", force=True)
    assert seqfeed.Dataset(tmp_path / "out")[0]["tokens"].tolist() == [2]
