# SPDX-License-Identifier: MIT
"""Bad input: a sentence that names the place and what to do, the right exit code, nothing left."""
import contextlib
import json
import os
import pathlib
import re
import resource
import shutil
import struct
import subprocess
import tempfile

import expected  # which finds the references
import harness
import pytest
import raw_client

USAGE, BUSY, CONFIGURATION = 2, 75, 78


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    rows = harness.random_rows(600, seed=9, longest=50)
    return harness.pack(tmp_path_factory.mktemp("errors") / "dataset", rows, "--block", "4KiB")


@pytest.fixture
def dataset(original, tmp_path):
    """A copy that a test may damage."""
    return pathlib.Path(shutil.copytree(original, tmp_path / "dataset"))


def shard_of(dataset):
    return sorted(dataset.glob("shard-*"))[0]


def refused(config, *options, code=CONFIGURATION, prefix=()):
    """Start a daemon that must end at once; returns what it said."""
    with tempfile.TemporaryDirectory(prefix="seqfeed-") as folder:
        ran = subprocess.run([*prefix, str(harness.DAEMON), "--config", str(config), "--socket",
                              f"{folder}/s", *options], capture_output=True, text=True,
                             env=harness.environment(), timeout=30 * harness.PATIENCE, check=False)
        assert not harness.REPORTS.search(ran.stderr), ran.stderr
        assert ran.returncode == code, f"exit {ran.returncode}: {ran.stderr}"
        assert os.listdir(folder) == []
    return ran.stderr


def change(path, offset, value=0x5A):
    data = bytearray(path.read_bytes())
    data[offset] ^= value
    path.write_bytes(data)


def in_limits(**limits):
    """A prefix: the program after it runs with these limits of the shell's ulimit (-n and so on)."""
    words = " && ".join(f"ulimit -{letter} {value}" for letter, value in limits.items())
    return ("bash", "-c", f'{words} && exec "$@"', "bash")


# --- threads -------------------------------------------------------------------------------------

# A stack of 1 GiB for each thread: the fetch thread and one worker fit into 3 GiB, 32 workers do not.
FEW_THREADS = in_limits(s=1 << 20, v=3 << 20)


@pytest.mark.skipif(harness.SANITIZED, reason="a sanitizer needs more address space than is given here")
def test_threads_that_the_system_refuses_say_what_to_change(dataset, tmp_path):
    config = harness.one_feed(tmp_path / "c.yaml", dataset, {"threads": 32})
    said = refused(config, code=1, prefix=FEW_THREADS)
    assert re.search(r"cannot start worker thread \d+ of 32: .*: lower threads, or raise the limit", said)


@pytest.mark.skipif(harness.SANITIZED or len(os.sched_getaffinity(0)) < 2,
                    reason="a sanitizer needs more address space; one CPU has one worker")
def test_threads_auto_takes_what_the_system_grants(dataset, tmp_path):
    limits = in_limits(s=1 << 20, v=3584 << 10)  # stacks of 1 GiB: for fetching, set-up and one worker
    with harness.Daemon(harness.one_feed(tmp_path / "c.yaml", dataset), prefix=limits) as daemon:
        daemon.wait_log(r"threads: 1 instead of \d+: the system grants no more \(TasksMax=, ulimit -u\)")
        assert len(daemon.cat(n=3)) == 3


# --- open files ----------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def many_shards(tmp_path_factory):
    rows = harness.random_rows(1500, seed=4, longest=200, shortest=100)
    dataset = harness.pack(tmp_path_factory.mktemp("shards") / "dataset", rows, "--block", "4KiB",
                           "--shard", "8KiB")
    assert len(list(dataset.glob("shard-*"))) > 30
    return dataset


def test_a_soft_limit_on_open_files_stops_nobody(many_shards, tmp_path):
    config = harness.one_feed(tmp_path / "c.yaml", many_shards)
    for words in ([harness.DAEMON, "--config", config, "--check"], [harness.TOOL, "plan", config],
                  [harness.TOOL, "inspect", many_shards], [harness.TOOL, "verify", many_shards]):
        ran = subprocess.run([*in_limits(Sn=30), *map(str, words)], capture_output=True, text=True,
                             env=harness.environment(), timeout=30 * harness.PATIENCE, check=False)
        assert ran.returncode == 0, f"{words}: {ran.stderr}"


def test_what_may_work_next_time_is_not_the_configurations_fault(many_shards, tmp_path):
    """78 would keep systemd from trying again."""
    config = harness.one_feed(tmp_path / "c.yaml", many_shards)
    for options in (), ("--check",):
        said = refused(config, *options, code=1, prefix=in_limits(n=30))
        assert "Too many open files" in said


def reads_directly(path):
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        return False
    return True


def test_direct_reads_open_each_shard_once_more_and_not_for_each_stream(many_shards, tmp_path):
    if not reads_directly(shard_of(many_shards)):
        pytest.skip("this file system has no direct reads (O_DIRECT)")
    shards = len(list(many_shards.glob("shard-*")))
    config = harness.one_feed(tmp_path / "c.yaml", many_shards, {"direct": True})
    with harness.Daemon(config) as daemon:
        idle = daemon.descriptors()
        if idle == 0:
            pytest.skip("only root may count what the daemon has open (root)")
        assert idle >= 2 * shards
        with contextlib.ExitStack() as trainers:
            for _ in range(3):
                trainers.enter_context(raw_client.Trainer(daemon.socket, "train")).next()
            assert daemon.descriptors() <= idle + 3 * 4


def test_descriptors_for_direct_reads_are_counted_before_trainers_come(many_shards, tmp_path):
    config = harness.one_feed(tmp_path / "c.yaml", many_shards, {"direct": True})
    shards = len(list(many_shards.glob("shard-*")))
    if not reads_directly(shard_of(many_shards)):
        pytest.skip("this file system has no direct reads (O_DIRECT)")
    said = refused(config, code=1, prefix=in_limits(n=shards + 30))
    assert re.search(r"feed train: the \d+ shards .* once more, for direct: true: .*set direct to false", said)


# --- datasets ------------------------------------------------------------------------------------

def test_a_dataset_that_is_not_there(tmp_path):
    config = harness.one_feed(tmp_path / "c.yaml", tmp_path / "nowhere")
    said = refused(config)
    assert "nowhere" in said and re.search(r"c\.yaml:\d+:\d+: ", said)


def test_a_folder_that_is_no_dataset(tmp_path):
    (tmp_path / "folder").mkdir()
    said = refused(harness.one_feed(tmp_path / "c.yaml", tmp_path / "folder"))
    assert "dataset.json" in said


def test_a_shard_that_is_missing(tmp_path, dataset):
    shard_of(dataset).unlink()
    assert "shard-00000" in refused(harness.one_feed(tmp_path / "c.yaml", dataset))


@pytest.mark.parametrize("left", [0, 1, 4095, 5000, -1])
def test_a_shard_that_was_cut(tmp_path, dataset, left):
    shard = shard_of(dataset)
    os.truncate(shard, left if left >= 0 else shard.stat().st_size + left)
    assert shard.name in refused(harness.one_feed(tmp_path / "c.yaml", dataset))


@pytest.mark.parametrize("where", ["header", "index", "end", "manifest"])
def test_damage_that_is_seen_at_start(tmp_path, dataset, where):
    shard = shard_of(dataset)
    size = shard.stat().st_size
    if where == "manifest":
        change(dataset / "dataset.json", 30, 1)
    else:
        index = shard.read_bytes().rindex(b"SQINDEX")
        change(shard, {"header": 40, "index": index + 40, "end": size - 5}[where])
    said = refused(harness.one_feed(tmp_path / "c.yaml", dataset))
    assert ("dataset.json" if where == "manifest" else shard.name) in said


def test_a_file_that_is_no_shard(tmp_path, dataset):
    shard_of(dataset).write_text("this is no shard\n" * 1000)
    assert shard_of(dataset).name in refused(harness.one_feed(tmp_path / "c.yaml", dataset))


def test_a_shard_of_another_dataset(tmp_path, dataset):
    other = harness.pack(tmp_path / "other", harness.random_rows(600, seed=10, longest=50), "--block",
                         "4KiB")
    shutil.copy(shard_of(other), shard_of(dataset))
    assert shard_of(dataset).name in refused(harness.one_feed(tmp_path / "c.yaml", dataset))


def test_a_shard_that_may_not_be_read(original, tmp_path):
    if not shutil.which("setpriv") and os.geteuid() == 0:
        pytest.skip("root reads everything, and there is no setpriv here (util-linux)")
    prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="seqfeed-") as folder:
        os.chmod(folder, 0o755)
        dataset = pathlib.Path(shutil.copytree(original, folder + "/dataset"))
        shard_of(dataset).chmod(0)
        config = harness.one_feed(pathlib.Path(folder) / "c.yaml", dataset)
        ran = subprocess.run([*prefix, str(harness.DAEMON), "--config", str(config), "--check"],
                             capture_output=True, text=True, env=harness.environment(), check=False)
    if "setpriv" in ran.stderr or "exec" in ran.stderr:
        pytest.skip(f"another user may not run the program here: {ran.stderr.strip()}")
    assert ran.returncode == CONFIGURATION, ran.stderr
    assert shard_of(original).name in ran.stderr and "ermission denied" in ran.stderr


def test_nothing_to_pack_or_an_empty_dataset(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    ran = harness.tool("pack", "-o", tmp_path / "dataset", tmp_path / "empty.jsonl", check=False)
    if ran.returncode == 0:
        said = refused(harness.one_feed(tmp_path / "c.yaml", tmp_path / "dataset"))
        assert "no sequences" in said or "empty" in said
    else:
        assert ran.returncode == 1 and "sequence" in ran.stderr
        assert not (tmp_path / "dataset").exists()


def test_damage_that_is_found_later_ends_that_feed_only(tmp_path, dataset, original):
    shard = shard_of(dataset)
    change(shard, 4096 + 200)
    feed = {"order": {"shuffle": False}, "batch": {"size": 8}}
    config = harness.write_config(tmp_path / "c.yaml", {"bad": {"dataset": dataset, **feed},
                                                        "good": {"dataset": original, **feed}})
    with harness.Daemon(config) as daemon:
        ran = daemon.tool("cat", "bad", "--json", check=False)
        assert ran.returncode == 1
        assert shard.name in ran.stderr and "block 0" in ran.stderr
        good = daemon.cat("good")
        assert len(good) == 75
        # The damage is at the front; what lies behind it was never delivered as something else.
        bad = harness.parse_batches(ran.stdout)
        for one, other in zip(bad, good):
            assert harness.same_tensors(one["tensors"], other["tensors"])
        assert daemon.process.poll() is None


@pytest.mark.parametrize("batch", [{"policy": "tokens", "tokens": 256}, {"policy": "pack", "size": 4, "length": 64}])
def test_an_index_that_says_sequences_are_longer_than_they_are(tmp_path, dataset, batch):
    """Room for a batch is made by the shortest sequence: one that is shorter must not come after it."""
    for shard in dataset.glob("shard-*"):
        content = bytearray(shard.read_bytes())
        index = content.rindex(b"SQINDEX\0")
        shortest, longest = struct.unpack_from("<II", content, index + 56)
        assert shortest < longest == 50
        struct.pack_into("<I", content, index + 56, longest)
        struct.pack_into("<I", content, index + 252, expected.shard_reader.crc32c(content[index:index + 252]))
        shard.write_bytes(content)
    said = refused(harness.one_feed(tmp_path / "c.yaml", dataset, batch=batch))
    assert re.search(r"/dataset/shard-\d+\.zst: the lengths of block \d+ at offset \d+ are damaged", said)


def test_damage_in_the_middle_ends_after_the_batches_before_it(tmp_path, dataset, original):
    shard = shard_of(dataset)
    change(shard, shard.stat().st_size // 2)
    config = harness.write_config(tmp_path / "c.yaml", {
        name: {"dataset": path, "order": {"shuffle": False, "window": 1}, "batch": {"size": 8}}
        for name, path in (("bad", dataset), ("good", original))},
        cache=0)  # or the good blocks would be delivered: the two have the same identity
    with harness.Daemon(config) as daemon:
        good = daemon.cat("good")
        for _ in range(2):
            ran = daemon.tool("cat", "bad", "--json", check=False)
            bad = harness.parse_batches(ran.stdout)
            assert ran.returncode == 1 and shard.name in ran.stderr
            assert len(bad) < len(good)
            for one, other in zip(bad, good):
                assert harness.same_tensors(one["tensors"], other["tensors"])


# --- configurations ------------------------------------------------------------------------------

WRONG = [
    ("feeds: {train: {dataset: DATA}}\nmemroy: 1GiB\n", ":2:1: ", "memroy"),
    ("feeds: {train: {dataset: DATA, batch: {size: 0}}}\n", ":1:", "size"),
    ("feeds: {train: {dataset: DATA, batch: {size: many}}}\n", ":1:", "size"),
    ("feeds: {train: {dataset: DATA, batch: {policy: magic}}}\n", ":1:", "fixed"),
    ("feeds:\n  train:\n    dataset: DATA\n    dataset: DATA\n", ":4:5: ", "dataset"),
    ("feeds: {train: {batch: {size: 4}}}\n", ":1:", "dataset"),
    ("feeds: {}\n", ":1:", "feeds"),
    ("memory: 1GiB\n", "", "feeds"),
    ("", "", "feeds"),
    ("feeds: [\n", ":", ""),
    ("feeds: &a {train: {dataset: DATA}}\n", ":1:", "anchor"),
    ("feeds: {train: {dataset: DATA}}\n---\nfeeds: {}\n", ":", "document"),
    ("feeds: {train: {dataset: DATA, order: {shuffle: yes}}}\n", ":1:", "true"),
    ("feeds: {train: {dataset: DATA, length: {max: 5}}}\n", ":1:", "longer than 5"),
    ("feeds: {train: {dataset: DATA, tensors: {x: {from: nothing}}}}\n", ":1:", "nothing"),
    ("feeds: {train: {dataset: DATA, ring: {slots: 1000}}}\n", ":1:", "slots"),
    ("memory: 1MiB\nfeeds: {train: {dataset: DATA, batch: {size: 4096}, pad: {to: 4096}}}\n", "", "memory"),
    ("feeds: {train: {dataset: DATA, order: {strands: 1000}}}\n", ":1:", "strand"),
]


@pytest.mark.parametrize("text, place, word", WRONG)
def test_a_wrong_configuration(tmp_path, original, text, place, word):
    config = tmp_path / "c.yaml"
    config.write_text(text.replace("DATA", str(original)))
    said = refused(config)
    assert f"c.yaml{place}" in said and word in said
    assert refused(config, "--check").splitlines()[-1:] == said.splitlines()[-1:]


def test_a_configuration_that_is_not_there(tmp_path):
    assert "nowhere.yaml" in refused(tmp_path / "nowhere.yaml")


def test_check_says_nothing_is_wrong(tmp_path, original):
    config = harness.one_feed(tmp_path / "c.yaml", original)
    ran = subprocess.run([str(harness.DAEMON), "--config", str(config), "--check"], check=False,
                         capture_output=True, text=True, env=harness.environment())
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"{config}: 1 feed, fine\n" and ran.stderr == ""


@pytest.mark.parametrize("mode, warned", [(0o700, True), (0o711, False), (0o755, False)])
def test_who_is_allowed_must_reach_the_socket(tmp_path, original, mode, warned):
    config = harness.one_feed(tmp_path / "c.yaml", original, allow={"users": [12345]})
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(mode)
    with harness.Daemon(config, socket_path=folder / "s") as daemon:
        assert (f"warning: feed train allows others, but the folder of the socket, {folder}, is closed to them"
                in daemon.log) == warned


def test_nobody_else_is_allowed_and_the_folder_is_closed(tmp_path, original):
    with harness.Daemon(harness.one_feed(tmp_path / "c.yaml", original)) as daemon:
        assert "warning" not in daemon.log


def test_set_is_checked_like_the_file(tmp_path, original):
    config = harness.one_feed(tmp_path / "c.yaml", original)
    assert "size" in refused(config, "--set", "feeds.train.batch.size=0")
    with harness.Daemon(config, sets=["feeds.train.batch.size=5"]) as daemon:
        assert daemon.cat(n=1)[0]["tensors"]["tokens"].shape[0] == 5


# --- programs ------------------------------------------------------------------------------------

@pytest.mark.parametrize("words", [[], ["--nonsense"], ["--config"], ["--config", "a", "b"]])
def test_wrong_usage_of_the_daemon(words):
    ran = subprocess.run([str(harness.DAEMON), *words], capture_output=True, text=True, check=False)
    assert ran.returncode == USAGE and ran.stderr


@pytest.mark.parametrize("words", [["nonsense"], ["cat"], ["cat", "train", "--nonsense"],
                                   ["cat", "train", "-n", "many"], ["pack"], ["run", "c.yaml"],
                                   ["cat", "train", "--rank", "0", "--world", "0"]])
def test_wrong_usage_of_the_tool(words):
    ran = harness.tool(*words, check=False)
    assert ran.returncode == USAGE and ran.stderr


def test_a_busy_socket(tmp_path, original):
    config = harness.one_feed(tmp_path / "c.yaml", original)
    with harness.Daemon(config) as daemon:
        ran = subprocess.run([str(harness.DAEMON), "--config", str(config), "--socket",
                              str(daemon.socket)], capture_output=True, text=True, check=False,
                             env=harness.environment(), timeout=20 * harness.PATIENCE)
        assert ran.returncode == BUSY and str(daemon.socket) in ran.stderr
        assert len(daemon.cat(n=1)) == 1


def test_no_daemon():
    with tempfile.TemporaryDirectory(prefix="seqfeed-") as folder:
        ran = harness.tool("cat", "train", "--socket", f"{folder}/s", check=False)
    assert ran.returncode == 1
    assert f"no daemon at {folder}/s" in ran.stderr
    assert "seqfeed run CONFIG -- COMMAND" in ran.stderr


# --- attaching -----------------------------------------------------------------------------------

@pytest.fixture
def daemon(tmp_path, original):
    config = harness.one_feed(tmp_path / "c.yaml", original, batch={"size": 8})
    with harness.Daemon(config) as running:
        yield running


def no(daemon, *words):
    ran = daemon.tool("cat", *words, check=False)
    assert ran.returncode == 1 and ran.stdout == "", ran.stdout
    return ran.stderr


def test_a_feed_that_does_not_exist(daemon):
    said = no(daemon, "valid")
    assert "valid" in said and "train" in said


def test_a_rank_outside_the_world(daemon):
    ran = daemon.tool("cat", "train", "--rank", "3", "--world", "2", check=False)
    assert ran.returncode in (1, USAGE) and "rank" in ran.stderr


def test_what_is_no_cursor(daemon):
    assert "cursor" in no(daemon, "train", "--resume", "sf1;nonsense")
    assert "the cursor is empty: leave it out" in no(daemon, "train", "--resume", "")


def test_a_cursor_of_another_plan_is_refused_field_by_field(daemon, tmp_path, original):
    cursor = daemon.cat(n=1)[0]["cursor"]
    other = harness.one_feed(tmp_path / "other.yaml", original, batch={"size": 4})
    with harness.Daemon(other) as second:
        assert re.search(r"batch: cursor has fixed/8/\S+, the feed has fixed/4/", no(
            second, "train", "--resume", cursor))


def test_a_group_that_never_becomes_whole(daemon):
    said = no(daemon, "train", "--group", "g", "--members", "2", "--timeout", "1")
    assert "member" in said


def test_a_rank_that_never_comes_is_named(daemon):
    said = no(daemon, "train", "--group", "g", "--rank", "1", "--world", "2", "--local-ranks", "2",
              "--timeout", "1")
    assert "rank" in said


def test_more_than_memory_holds_is_refused_with_the_arithmetic(tmp_path, original):
    config = harness.one_feed(tmp_path / "c.yaml", original, {"memory": "16MiB"}, batch={"size": 64},
                              pad={"to": 1024})
    with harness.Daemon(config) as daemon:
        options = [{"group": "g", "rank": rank, "world": 8, "local_ranks": 8, "timeout": 5}
                   for rank in range(8)]
        running = [daemon.cat_start(n=1, **each) for each in options]
        assert [cat.wait() for cat in running] == [1] * 8
        assert all("MiB" in cat.errors for cat in running)
        assert len(daemon.cat(n=1)) == 1


def test_what_feeds_take_themselves_is_part_of_memory(tmp_path, original):
    feed = {"dataset": original, "batch": {"size": 8}}
    one = harness.write_config(tmp_path / "one.yaml", {"a": feed})
    two = harness.write_config(tmp_path / "two.yaml", {"a": feed, "b": feed})
    with harness.Daemon(one) as daemon:
        index = daemon.status()["memory"]["index"]
        assert index > 0
        assert " index; " in daemon.tool("status").stdout
    with harness.Daemon(two) as daemon:
        assert daemon.status()["memory"]["index"] == 2 * index
    plan = json.loads(harness.tool("plan", "--json", one).stdout)["feeds"]["a"]["memory"]
    assert plan["index"] == index


# --- packing -------------------------------------------------------------------------------------

BAD_ROWS = [
    ('{"tokens": [1]}\n{"tokens": "words"}\n', 2, "tokens"),
    ('{"tokens": [1]}\nno json\n', 2, ""),
    ('{"tokens": [1]}\n{"other": [1]}\n', 2, "tokens"),
    ('{"tokens": [1], "label": 1}\n{"tokens": [1]}\n', 2, "label"),
    ('{"tokens": [1, null]}\n', 1, "tokens"),
]


@pytest.mark.parametrize("text, line, word", BAD_ROWS)
def test_a_bad_row_is_named_and_nothing_is_left(tmp_path, text, line, word):
    source = tmp_path / "rows.jsonl"
    source.write_text(text)
    ran = harness.tool("pack", "-o", tmp_path / "dataset", source, check=False)
    assert ran.returncode == 1
    assert f"rows.jsonl:{line}" in ran.stderr and word in ran.stderr
    assert sorted(os.listdir(tmp_path)) == ["rows.jsonl"]


def test_a_token_that_does_not_fit_names_the_option(tmp_path):
    source = harness.write_jsonl(tmp_path / "rows.jsonl", [{"tokens": [1]}, {"tokens": [70000]}])
    ran = harness.tool("pack", "--token-type", "u16", "-o", tmp_path / "dataset", source, check=False)
    assert ran.returncode == 1
    assert "rows.jsonl:2" in ran.stderr and "--token-type" in ran.stderr
    assert not (tmp_path / "dataset").exists()


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    source = harness.write_jsonl(tmp_path / "rows.jsonl", harness.CANONICAL)
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset/precious").write_text("keep me")
    ran = harness.tool("pack", "-o", tmp_path / "dataset", source, check=False)
    assert ran.returncode == 1 and "dataset" in ran.stderr
    assert os.listdir(tmp_path / "dataset") == ["precious"]


def test_a_full_disk(tmp_path):
    """A file system of one megabyte in a mount namespace of its own."""
    rows = harness.random_rows(40000, longest=60, vocabulary=60000)
    source = harness.write_jsonl(tmp_path / "rows.jsonl", rows)
    (tmp_path / "disk").mkdir()
    script = ('mount -t tmpfs -o size=1m none "$1" 2>/dev/null || exit 77; "$2" pack -o "$1/dataset" '
              '--level 1 "$3"; code=$?; ls -A "$1"; exit $code')
    ran = subprocess.run(["unshare", "-rm", "sh", "-c", script, "sh", tmp_path / "disk", harness.TOOL,
                          source], capture_output=True, text=True, env=harness.environment(),
                         check=False)
    if ran.returncode == 77 or "unshare" in ran.stderr:
        pytest.skip(f"no mount namespaces here: {ran.stderr.strip()}")
    assert ran.returncode == 1
    assert "No space left" in ran.stderr
    assert ran.stdout == "", "something half-written is left"


def test_a_file_that_may_not_grow(tmp_path):
    """The same by a limit of the process, which works everywhere."""
    rows = harness.random_rows(40000, longest=60, vocabulary=60000)
    source = harness.write_jsonl(tmp_path / "rows.jsonl", rows)
    ran = subprocess.run([str(harness.TOOL), "pack", "-o", str(tmp_path / "dataset"), str(source)],
                         capture_output=True, text=True, env=harness.environment(), check=False,
                         preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200000, 200000)))
    assert ran.returncode == 1, ran
    assert "too large" in ran.stderr
    assert sorted(os.listdir(tmp_path)) == ["rows.jsonl"]


@pytest.mark.parametrize("command", ["pack", "inspect", "verify", "salvage", "plan", "run", "cat", "bench",
                                     "status", "drain"])
def test_a_wrong_option_is_named_in_one_sentence(command):
    ran = harness.tool(command, "--bogus", check=False)
    assert ran.returncode == USAGE and ran.stdout == ""
    first, second = ran.stderr.splitlines()
    assert first.startswith(f"seqfeed {command}: there is no option '--bogus'")
    assert second == f"Try 'seqfeed {command} --help'."
    ran = harness.tool(command, "-xh", check=False)
    assert ran.returncode == USAGE and ran.stderr.startswith(f"seqfeed {command}: there is no option '-x'"), ran.stderr
    with_value = {"pack": "--level", "verify": "--jobs", "salvage": "-o", "plan": "--set", "run": "--set",
                  "cat": "--rank", "bench": "-n", "status": "--socket", "drain": "--socket"}.get(command)
    if with_value:
        ran = harness.tool(command, with_value, check=False)
        assert ran.stderr.splitlines()[0] == f"seqfeed {command}: '{with_value}' needs a value"
