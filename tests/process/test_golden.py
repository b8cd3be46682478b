# SPDX-License-Identifier: MIT
"""Files that must open and files that must be refused, by this version and every later one."""
import json
import sys

import harness
import pytest

GOLDEN = harness.ROOT / "tests" / "golden"
sys.path[:0] = [str(harness.ROOT / "tests" / "reference"), str(GOLDEN)]
import make_golden  # noqa: E402
import shard_reader  # noqa: E402

WORDS = json.loads((GOLDEN / "refused" / "words.json").read_text())


@pytest.mark.parametrize("name, rows", [("three", make_golden.THREE),
                                        ("columns", list(make_golden.column_rows()))])
def test_good_datasets_open(name, rows):
    directory = GOLDEN / "good" / name
    harness.tool("verify", directory)
    shown = json.loads(harness.tool("inspect", "--json", directory).stdout)
    assert shown["sequences"] == len(rows)
    dataset = shard_reader.read_dataset(directory)
    for i, row in enumerate(rows):
        got = {key: values.tolist() for key, values in dataset[i].items()}
        assert got == row, i


@pytest.mark.parametrize("name", sorted(WORDS))
def test_damaged_shards_are_refused(name, tmp_path):
    ran = harness.tool("verify", "--json", GOLDEN / "refused" / name, check=False)
    assert ran.returncode == 1
    said = json.loads(ran.stdout)["damage"][0]["what"]
    assert WORDS[name] in said, said
    with pytest.raises(Exception):
        shard_reader.read_shard(GOLDEN / "refused" / name)


def test_nothing_is_left_out():
    assert {path.name for path in (GOLDEN / "refused").glob("*.zst")} == set(WORDS)
