# SPDX-License-Identifier: MIT
"""Who shares a stream with whom: groups, ranks, members, joins, waits, deaths and the end."""
import errno
import mmap
import os
import re
import signal
import threading
import time

import expected
import harness
import pytest
import raw_client

SLOTS = 4


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    rows = harness.random_rows(700, seed=5, longest=30)
    return harness.pack(tmp_path_factory.mktemp("streams") / "dataset", rows, "--block", "4KiB")


def configure(tmp_path, dataset, top=None, **feed):
    return harness.one_feed(tmp_path / "c.yaml", dataset, top,
                            **{"batch": {"size": 8}, "ring": {"slots": SLOTS}, **feed})


@pytest.fixture
def daemon(tmp_path, dataset):
    with harness.Daemon(configure(tmp_path, dataset)) as running:
        yield running


@pytest.fixture
def known(dataset):
    return expected.Expected(dataset, size=8)


class Waiting(threading.Thread):
    """An attach that waits for others: Waiting(daemon, rank=1, ...).result() is the Trainer."""

    def __init__(self, daemon, **options):
        super().__init__(daemon=True)
        self.daemon_socket, self.options = daemon.socket, options
        self.trainer = self.refused = None
        self.start()

    def run(self):
        try:
            self.trainer = raw_client.Trainer(self.daemon_socket, "train", **self.options)
        except (raw_client.Refused, OSError) as problem:
            self.refused = problem

    def result(self, timeout=20):
        self.join(timeout * harness.PATIENCE)
        assert not self.is_alive(), "still waiting"
        if self.refused:
            raise self.refused
        return self.trainer


def attach_all(daemon, options):
    return [waiting.result() for waiting in [Waiting(daemon, **each) for each in options]]


def close_all(trainers):
    for trainer in trainers:
        trainer.close()


def check(trainer, batches, first=0):
    """The trainer's next batches are these, tensor by tensor."""
    for number, batch in enumerate(batches):
        found = trainer.next()
        assert (found.number, found.index) == (first + number, batch["step"])
        assert found.cursor == batch["cursor"]
        for name, tensor in batch["tensors"].items():
            assert (found.tensors[name] == tensor).all(), name
        trainer.release()


def streams(daemon, count):
    found = []

    def there():
        found[:] = daemon.status()["streams"]
        return len(found) == count

    harness.wait_until(there, f"never {count} streams")
    return found


# --- one stream ----------------------------------------------------------------------------------

def test_members_read_one_copy(daemon, known):
    trainers = attach_all(daemon, [{"group": "g", "members": 3}] * 3)
    assert len({os.fstat(trainer.data_fd).st_ino for trainer in trainers}) == 1
    assert len({os.fstat(trainer.ack_fd).st_ino for trainer in trainers}) == 3
    assert sorted(trainer.member for trainer in trainers) == [0, 1, 2]
    batches = known.rank(0)[:3 * SLOTS]
    for batch in batches:
        for trainer in trainers:
            check(trainer, [batch], trainer.taken)
    stream, = streams(daemon, 1)
    assert len(stream["rings"][0]["members"]) == 3
    close_all(trainers)


def test_local_ranks_share_one_stream_and_decode_each_block_once(tmp_path, dataset):
    known = expected.Expected(dataset, size=8, window=1)
    config = configure(tmp_path, dataset, {"cache": 0}, order={"window": 1})
    with harness.Daemon(config) as daemon:
        ranks = [{"group": "g", "rank": rank, "world": 4, "local_ranks": 2} for rank in (3, 1)]
        three, one = attach_all(daemon, ranks)
        rounds = known.epoch(world=4)
        for number, batches in enumerate(rounds):
            check(one, [batches[1]], number)
            check(three, [batches[3]], number)
        stream, = streams(daemon, 1)
        assert [ring["rank"] for ring in stream["rings"]] == [1, 3]
        # The epoch once, and what was prepared of the next one.
        assert daemon.status()["read"]["decoded"] < 2 * len(known.blocks)
        close_all([one, three])


def test_what_differs_in_its_key_is_a_stream_of_its_own(daemon):
    several = [{}, {"group": "a"}, {"group": "b"}, {"world": 2}, {"seed": 5}, {"group": "a"}]
    trainers = [raw_client.Trainer(daemon.socket, "train", **each) for each in several]
    assert len(streams(daemon, len(several))) == len(several)
    close_all(trainers)
    streams(daemon, 0)


def test_status_warns_of_ranks_that_decode_everything_each(daemon):
    trainers = [raw_client.Trainer(daemon.socket, "train", rank=rank, world=8) for rank in range(3)]
    assert daemon.status()["warnings"] == [
        "3 streams of feed train for world 8: set local_world_size to decode once"]
    close_all(trainers)


# --- forming -------------------------------------------------------------------------------------

def test_a_taken_seat_names_who_sits_there(daemon):
    sitting = Waiting(daemon, group="g", rank=0, world=2, local_ranks=2)
    harness.wait_until(lambda: daemon.status()["forming"], "nobody waits")
    with pytest.raises(raw_client.Refused, match=rf"rank 0 of group g is taken by pid {os.getpid()}"):
        raw_client.Trainer(daemon.socket, "train", group="g", rank=0, world=2, local_ranks=2)
    close_all([raw_client.Trainer(daemon.socket, "train", group="g", rank=1, world=2, local_ranks=2),
               sitting.result()])


def test_a_surplus_rank_names_who_is_there(daemon):
    one = Waiting(daemon, group="g", rank=0, world=4, local_ranks=2, members=2)
    two = Waiting(daemon, group="g", rank=2, world=4, local_ranks=2, members=2)
    harness.wait_until(lambda: sum(each["taken"] for each in daemon.status()["forming"]) == 2,
                       "nobody waits")
    with pytest.raises(raw_client.Refused, match=r"rank 3 is one too many for group g.*0 \(pid"):
        raw_client.Trainer(daemon.socket, "train", group="g", rank=3, world=4, local_ranks=2, members=2)
    others = attach_all(daemon, [{"group": "g", "rank": rank, "world": 4, "local_ranks": 2,
                                  "members": 2} for rank in (0, 2)])
    close_all([*others, one.result(), two.result()])


def test_who_is_missing_is_named_at_the_deadline(daemon):
    waiting = [Waiting(daemon, group="g", rank=rank, world=4, local_ranks=4, deadline=1)
               for rank in (0, 1, 2)]
    for each in waiting:
        with pytest.raises(raw_client.Refused,
                           match=r"timed out waiting for rank 3 \(never attached\)") as refused:
            each.result()
        assert refused.value.code == -errno.ETIMEDOUT
    assert daemon.status()["memory"]["reserved"] == 0


def test_who_dies_while_it_forms_frees_the_seat(daemon):
    early = daemon.cat_start(n=1, group="g", rank=1, world=3, local_ranks=3)
    other = Waiting(daemon, group="g", rank=0, world=3, local_ranks=3)
    harness.wait_until(lambda: daemon.status()["forming"] and daemon.status()["forming"][0]["taken"] == 2,
                       "nobody waits")
    early.kill()
    harness.wait_until(lambda: daemon.status()["forming"][0]["taken"] == 1, "the seat is not free")
    assert "rank 1 (pid " in daemon.status()["forming"][0]["waiting_for"]
    others = attach_all(daemon, [{"group": "g", "rank": rank, "world": 3, "local_ranks": 3}
                                 for rank in (1, 2)])
    close_all([*others, other.result()])


def test_the_first_who_waits_is_told_why(daemon):
    waiting = Waiting(daemon, group="g", rank=0, world=2, local_ranks=2)
    daemon.wait_log(r"group g: waiting for rank 1 \(never attached\)", timeout=8)
    other = raw_client.Trainer(daemon.socket, "train", group="g", rank=1, world=2, local_ranks=2)
    trainer = waiting.result()
    assert trainer.connection.waited == ["waiting for rank 1 (never attached)"]
    close_all([trainer, other])


def test_cursors_that_a_daemons_death_leaves_start_at_the_oldest(tmp_path, dataset, known):
    """Two ranks stop at different rounds; each comes back at its own cursor."""
    rounds = known.epoch(world=2)
    with harness.Daemon(configure(tmp_path, dataset)) as daemon:
        ranks = [{"group": "g", "rank": rank, "world": 2, "local_ranks": 2} for rank in (0, 1)]
        zero, one = attach_all(daemon, ranks)
        check(zero, [found[0] for found in rounds[:5]])
        check(one, [found[1] for found in rounds[:3]])
        daemon.kill()
        close_all([zero, one])
        daemon.start(wait=False)
        harness.wait_until(daemon.listens, "no daemon")
        zero, one = attach_all(daemon, [{**ranks[0], "cursor": rounds[4][0]["cursor"]},
                                        {**ranks[1], "cursor": rounds[2][1]["cursor"]}])
        assert (zero.start_index, one.start_index) == (6, 6)
        check(zero, [found[0] for found in rounds[3:8]])  # the client skips two of these
        check(one, [found[1] for found in rounds[3:8]])
        close_all([zero, one])


def test_cursors_too_far_apart_refuse_all(daemon, known):
    rounds = known.epoch(world=2)
    ranks = [{"group": "g", "rank": rank, "world": 2, "local_ranks": 2} for rank in (0, 1)]
    first = Waiting(daemon, **ranks[0], cursor=rounds[SLOTS + 5][0]["cursor"])
    harness.wait_until(lambda: daemon.status()["forming"], "nobody waits")
    second = Waiting(daemon, **ranks[1], cursor=rounds[1][1]["cursor"])
    for waiting in (first, second):
        with pytest.raises(raw_client.Refused,
                           match=rf"rank 1 asks for index 4, rank 0 for {2 * (SLOTS + 6)}"):
            waiting.result()


def test_cursors_of_two_epochs_near_its_end(daemon, known):
    rounds = known.epoch(world=2)
    ranks = [{"group": "g", "rank": rank, "world": 2, "local_ranks": 2} for rank in (0, 1)]
    near = attach_all(daemon, [{**ranks[0], "cursor": rounds[-3][0]["cursor"]},
                               {**ranks[1], "cursor": rounds[-1][1]["cursor"]}])
    assert [trainer.start_index for trainer in near] == [2 * (len(rounds) - 2)] * 2
    close_all(near)
    far = [Waiting(daemon, **ranks[0], cursor=rounds[2][0]["cursor"]),
           Waiting(daemon, **ranks[1], cursor=rounds[-1][1]["cursor"])]
    for waiting in far:
        with pytest.raises(raw_client.Refused, match="rank 0 asks for epoch 0 index 6"):
            waiting.result()
    streams(daemon, 0)


def test_cursors_that_are_epochs_apart_where_a_ring_holds_epochs(tmp_path):
    """Two batches an epoch, eight slots: what two members have read lies three epochs apart, and both
    go on after the daemon's death. Further than a ring holds is refused."""
    dataset = harness.pack(tmp_path / "short", harness.random_rows(10, seed=1, longest=5))
    members = [{"group": "g", "members": 2}] * 2
    with harness.Daemon(harness.one_feed(tmp_path / "c.yaml", dataset, batch={"size": 5})) as running:
        both, cursors = attach_all(running, members), []
        for trainer, count in zip(both, (1, 7)):
            for _ in range(count):
                cursors.append(trainer.next())
                trainer.release()
        cursors = [cursors[0], cursors[-1]]
        assert [(batch.next_epoch, batch.next_index) for batch in cursors] == [(0, 1), (3, 1)]
        close_all(both)
        running.kill()
        running.start()
        both = attach_all(running, [{**members[0], "cursor": batch.cursor} for batch in cursors])
        for trainer in both:
            assert (trainer.start_epoch, trainer.start_index) == (0, 1)
            trainer.next()
        close_all(both)
        apart = [Waiting(running, **members[0], cursor=cursors[0].cursor),
                 Waiting(running, **members[0], cursor="sf1;epoch=10")]
        for waiting in apart:
            with pytest.raises(raw_client.Refused, match="for epoch 10 index 0"):
                waiting.result()


def test_cursors_on_both_sides_of_a_round_that_is_dropped(tmp_path, dataset):
    """88 batches: three ranks have no round left at 87 and start with the next epoch."""
    with harness.Daemon(configure(tmp_path, dataset, batch={"size": 8, "tail": "drop"})) as running:
        alone = raw_client.Trainer(running.socket, "train")
        for _ in range(87):
            cursor = alone.next().cursor
            alone.release()
        alone.close()
        each = {"group": "g", "world": 3, "local_ranks": 2}
        both = attach_all(running, [{**each, "rank": 0, "cursor": cursor},
                                    {**each, "rank": 1, "cursor": "sf1;epoch=1"}])
        for rank, trainer in enumerate(both):
            assert (trainer.start_epoch, trainer.start_index, trainer.epoch_length) == (1, 0, 29)
            batch = trainer.next()
            assert (batch.epoch, batch.index) == (1, rank)
        close_all(both)


def test_more_seats_need_a_group(daemon):
    for options in ({"members": 2}, {"world": 2, "local_ranks": 2}):
        with pytest.raises(raw_client.Refused, match="name the group"):
            raw_client.Trainer(daemon.socket, "train", **options)


def test_fewer_batches_than_ranks_with_tail_drop(tmp_path, dataset):
    config = configure(tmp_path, dataset, batch={"size": 100, "tail": "drop"})
    with harness.Daemon(config) as daemon:
        with pytest.raises(raw_client.Refused, match="7 batches and world 8"):
            raw_client.Trainer(daemon.socket, "train", world=8)
        close_all([raw_client.Trainer(daemon.socket, "train", world=7)])


def test_a_later_epoch_with_fewer_batches_than_ranks_ends_the_stream(tmp_path, dataset):
    """Lengths decide: epoch 1 has a batch for each of 42 ranks, epoch 2 one too few. Whoever comes there
    is told what an attach at its cursor is told; nothing is passed over, and nobody waits for ever."""
    batch = {"policy": "tokens", "tokens": 300, "tail": "drop"}
    plan = expected.Expected(dataset, window=2, batch=batch)
    counts = [len(expected.plan_reference.Epoch(plan.spec, plan.lengths, epoch).batches) for epoch in (1, 2)]
    assert counts == [42, 41]
    with harness.Daemon(configure(tmp_path, dataset, batch=batch, order={"window": 2})) as daemon:
        trainer = raw_client.Trainer(daemon.socket, "train", rank=3, world=42, cursor="sf1;epoch=1")
        last = trainer.next()
        assert (last.epoch, last.index, last.next_epoch, last.next_index) == (1, 3, 2, 0)
        trainer.release()
        with pytest.raises(raw_client.Refused, match="epoch 2 has 41 batches and world 42 .* lower batch.tokens"):
            trainer.next()
        trainer.close()
        with pytest.raises(raw_client.Refused, match="epoch 2 has 41 batches and world 42"):
            raw_client.Trainer(daemon.socket, "train", rank=3, world=42, cursor=last.cursor)
        close_all([raw_client.Trainer(daemon.socket, "train", rank=3, world=41, cursor=last.cursor)])


# --- memory --------------------------------------------------------------------------------------

def memory_for(tmp_path, dataset, count):
    """A configuration whose memory holds so many streams and a half; of wide batches, for memory has a
    least value."""
    feed = {"pad": {"to": 4096}}
    with harness.Daemon(configure(tmp_path, dataset, **feed)) as daemon:
        with raw_client.Trainer(daemon.socket, "train"):
            need = daemon.status()["memory"]["reserved"]
    return configure(tmp_path, dataset, {"memory": str(need * count + need // 2), "cache": 0}, **feed)


def test_who_must_wait_for_memory_starts_when_another_ends(tmp_path, dataset):
    known = expected.Expected(dataset, size=8, to=4096)
    with harness.Daemon(memory_for(tmp_path, dataset, 1)) as daemon:
        one = raw_client.Trainer(daemon.socket, "train")
        other = Waiting(daemon)
        harness.wait_until(lambda: daemon.status()["forming"], "it does not wait")
        assert "of memory" in daemon.status()["forming"][0]["waiting_for"]
        check(one, known.rank(0)[:4])
        one.close()
        trainer = other.result()
        check(trainer, known.rank(0)[:4])
        trainer.close()


def test_who_waits_for_memory_in_vain_is_told_the_arithmetic(tmp_path, dataset):
    with harness.Daemon(memory_for(tmp_path, dataset, 1)) as daemon:
        with raw_client.Trainer(daemon.socket, "train"):
            with pytest.raises(raw_client.Refused, match=r"timed out waiting for [1-9]\S* \S*B of memory: .* of "):
                raw_client.Trainer(daemon.socket, "train", deadline=1)


def keep_mapping(trainer):
    kept = mmap.mmap(trainer.data_fd, trainer.ring_bytes, mmap.MAP_SHARED, mmap.PROT_READ)
    return kept.close


def keep_path(trainer):
    """No descriptor that could be read, but one from which such a one can be made."""
    kept = os.open(f"/proc/self/fd/{trainer.data_fd}", os.O_PATH)
    return lambda: os.close(kept)


def keep_in_child(trainer):
    child = os.fork()
    if child == 0:
        trainer.connection.socket.close()
        signal.pause()

    def end():
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    return end


@pytest.mark.parametrize("keep", [keep_mapping, keep_path, keep_in_child])
def test_a_ring_that_is_kept_stays_reserved(tmp_path, dataset, keep):
    """Nobody can take a batch in hand away from who has it; so its ring counts until it is let go."""
    with harness.Daemon(memory_for(tmp_path, dataset, 1)) as daemon:
        def memory():
            return {name: daemon.status()["memory"][name] for name in ("reserved", "kept")}

        trainer = raw_client.Trainer(daemon.socket, "train")
        let_go = keep(trainer)
        trainer.close()
        harness.wait_until(lambda: not daemon.status()["streams"], "the stream lives on")
        harness.wait_until(lambda: memory() == {"reserved": trainer.ring_bytes, "kept": trainer.ring_bytes},
                           "the ring is not reserved")
        with pytest.raises(raw_client.Refused, match="for rings that trainers which have left still have"):
            raw_client.Trainer(daemon.socket, "train", deadline=1)
        other = Waiting(daemon)
        harness.wait_until(lambda: daemon.status()["forming"], "it does not wait")
        let_go()
        other.result().close()
        harness.wait_until(lambda: memory() == {"reserved": 0, "kept": 0}, "memory stays reserved")


def test_who_attaches_again_and_again_finds_the_memory_free(tmp_path, dataset):
    with harness.Daemon(memory_for(tmp_path, dataset, 1)) as daemon:
        begin = time.monotonic()
        for _ in range(100):
            with raw_client.Trainer(daemon.socket, "train") as trainer:
                trainer.next()
        assert time.monotonic() - begin < 50  # the daemon looks at least once a second


# --- joining -------------------------------------------------------------------------------------

def test_a_join_sees_every_batch_from_there_on(daemon, known):
    batches = known.rank(0)
    first = raw_client.Trainer(daemon.socket, "train")
    check(first, batches[:10])
    second = raw_client.Trainer(daemon.socket, "train", join_next=True)
    assert os.fstat(second.data_fd).st_ino == os.fstat(first.data_fd).st_ino
    assert second.member != first.member and second.first >= 10
    assert second.first <= 10 + SLOTS
    for number in range(10, 40):
        check(first, [batches[number]], number)
        if number >= second.first:
            check(second, [batches[number]], number)
    assert len(streams(daemon, 1)[0]["rings"][0]["members"]) == 2
    close_all([first, second])


def test_joining_nothing_is_a_stream_of_its_own(daemon, known):
    with raw_client.Trainer(daemon.socket, "train", join_next=True) as trainer:
        check(trainer, known.rank(0)[:3])


def test_a_joined_ring_outlives_who_began_it(daemon, known):
    batches = known.rank(0)
    first = raw_client.Trainer(daemon.socket, "train")
    check(first, batches[:2])
    second = raw_client.Trainer(daemon.socket, "train", join_next=True)
    first.close()
    check(second, batches[second.first:second.first + 3 * SLOTS], second.first)
    second.close()
    streams(daemon, 0)


def test_a_cursor_and_a_join_exclude_each_other(daemon):
    with pytest.raises(raw_client.Refused, match="exclude each other"):
        raw_client.Trainer(daemon.socket, "train", cursor="sf1;epoch=1", join_next=True)


# --- the slow and the dead -----------------------------------------------------------------------

def test_a_slow_member_holds_up_its_own_stream_and_is_named(daemon, known):
    batches = known.rank(0)
    slow, quick = attach_all(daemon, [{"group": "sweep", "members": 2}] * 2)
    check(quick, batches[:SLOTS])
    alone = raw_client.Trainer(daemon.socket, "train")
    check(alone, batches[:3 * SLOTS])
    sentence = rf"group sweep: pid {os.getpid()} is {SLOTS} batches behind"
    daemon.wait_log(sentence, timeout=9)
    assert any(re.fullmatch(sentence, warning) for warning in daemon.status()["warnings"])
    kind, data, _ = quick.connection.receive()
    assert kind == raw_client.WAITING
    assert re.fullmatch(sentence, raw_client.text_of(raw_client.NOTICE_FORMAT.unpack(data)[4]))
    check(slow, batches[:SLOTS])
    check(quick, batches[SLOTS:2 * SLOTS], SLOTS)
    assert daemon.status()["warnings"] == []
    close_all([slow, quick, alone])


def test_a_dead_member_gives_its_slots_back(daemon, known):
    batches = known.rank(0)
    victim = daemon.cat_start(n=10 ** 9, group="g", members=2)
    other = Waiting(daemon, group="g", members=2).result()
    victim.wait_lines(1)
    victim.process.send_signal(signal.SIGSTOP)
    check(other, batches[:2])
    victim.kill()
    check(other, batches[2:6 * SLOTS], 2)
    assert len(streams(daemon, 1)[0]["rings"][0]["members"]) == 1
    other.close()
    streams(daemon, 0)


def test_a_dead_rank_does_not_hold_up_the_others(daemon, known):
    rounds = known.epoch(world=2)
    zero, one = attach_all(daemon, [{"group": "g", "rank": rank, "world": 2, "local_ranks": 2}
                                    for rank in (0, 1)])
    check(zero, [found[0] for found in rounds[:2]])
    zero.close()
    check(one, [found[1] for found in rounds])
    one.close()
    streams(daemon, 0)


@pytest.mark.threads
def test_attaching_and_leaving_a_hundred_times(daemon, known):
    """Each gets the first batch at once, from a cold cache or a warm one."""
    first = known.rank(0)[0]
    for number in range(100):
        trainer = raw_client.Trainer(daemon.socket, "train", group="g" if number % 2 else "")
        check(trainer, [first])
        trainer.close()
    streams(daemon, 0)
    assert daemon.status()["memory"]["reserved"] == 0


# --- the end -------------------------------------------------------------------------------------

def test_a_drain_lets_trainers_finish_what_is_published(daemon, known):
    trainer = raw_client.Trainer(daemon.socket, "train")
    check(trainer, known.rank(0)[:2])
    waiting = Waiting(daemon, group="g", members=2)
    harness.wait_until(lambda: daemon.status()["forming"], "nobody waits")
    assert "no more trainers" in daemon.tool("drain").stdout
    with pytest.raises(raw_client.Refused, match="ending"):
        waiting.result()
    with pytest.raises(raw_client.Refused, match="ending"):
        raw_client.Trainer(daemon.socket, "train")
    harness.wait_until(lambda: trainer.state == raw_client.DRAIN, "the ring does not say so")
    check(trainer, known.rank(0)[2:trainer.head], 2)
    assert daemon.process.poll() is None
    before = time.monotonic()
    trainer.close()
    assert daemon.process.wait(5 * harness.PATIENCE) == 0
    assert time.monotonic() - before < 3 * harness.PATIENCE


def test_cat_ends_when_the_daemon_drains(daemon):
    running = daemon.cat_start(n=10 ** 9)
    running.wait_lines(1)
    daemon.tool("drain")
    assert running.finish(expect=1, timeout=20) and "draining" in running.errors
    assert daemon.process.wait(10 * harness.PATIENCE) == 0


def test_status_for_people(daemon):
    with raw_client.Trainer(daemon.socket, "train", group="night run") as trainer:
        trainer.next()
        waiting = Waiting(daemon, group="g", rank=0, world=2, local_ranks=2)
        harness.wait_until(lambda: daemon.status()["forming"], "nobody waits")
        shown = daemon.tool("status").stdout
        assert "night run" in shown and str(os.getpid()) in shown
        assert "1 of 2 seats taken" in shown and "waiting for rank 1 (never attached)" in shown
        close_all([raw_client.Trainer(daemon.socket, "train", group="g", rank=1, world=2, local_ranks=2),
                   waiting.result()])
