# SPDX-License-Identifier: MIT
"""attach() and what it returns."""
from __future__ import annotations

import errno
import operator
import os
import re
import sys
import threading
import time
from typing import Any, Callable, Dict, Iterator, NoReturn, Optional

from . import _ranks, _seqfeed
from ._batch import Batch, Tensor
from ._hint import meant

END_OF_EPOCH = 1
DRAINED = 2
RETRY_FIRST, RETRY_MOST = 0.02, 1.0
MOST = 2**32 - 1  # ranks, members


def _cursor_of(state: str | Dict[str, Any]) -> str:
    if isinstance(state, str):
        return state
    if not isinstance(state, dict):
        raise TypeError(f"a state_dict() of a feed or a cursor is wanted, not {state!r}")
    if "cursor" not in state:
        raise ValueError(f"this is no state_dict() of a feed: it has no 'cursor', but {sorted(state)}")
    cursor = state["cursor"]
    if not isinstance(cursor, str):
        raise ValueError(f"this is no state_dict() of a feed: its 'cursor' is {cursor!r}, no text")
    return cursor


class CursorError(ValueError):
    """The cursor is of another plan; the sentence names the fields that differ."""


class Drained(RuntimeError):
    """The daemon hands out no more batches. state_dict() resumes at another one."""


def _interruptible(function: Callable[[_seqfeed.Attempt], _seqfeed.Attachment]) -> _seqfeed.Attachment:
    """Call it so that Ctrl-C is answered at once: what waits is another thread. One that is left
    behind gives its seat back."""
    attempt = _seqfeed.Attempt()
    if threading.current_thread() is not threading.main_thread():
        return function(attempt)
    result: list[_seqfeed.Attachment] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            result.append(function(attempt))
        except BaseException as error:  # handed over, whatever it is
            failure.append(error)

    thread = threading.Thread(target=work, name="seqfeed-attach", daemon=True)
    try:
        thread.start()
        thread.join()
    except BaseException:
        attempt.cancel()
        if thread.ident is not None:
            thread.join(1.0)
        for each in result:  # which the traceback would keep
            each.close()
        raise
    if failure:
        raise failure.pop()
    return result.pop()


def whole(name: str, value: Any, least: int, most: Optional[int] = None) -> int:
    """A number of the caller, of whatever type; else an error that names it."""
    wanted = f"{name} must be a whole number from {least} {'on' if most is None else f'to {most}'}, not {value!r}"
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(wanted) from None
    if number < least or (most is not None and number > most):
        raise ValueError(wanted)
    return number


def position(cursor: str) -> tuple[int, int]:
    """(epoch, index) of a cursor."""
    epoch = re.search(r";epoch=(\d+)", cursor)
    index = re.search(r";index=(\d+)", cursor)
    return int(epoch.group(1)) if epoch else 0, int(index.group(1)) if index else 0


class Feed:
    """An attachment: iterate over it for batches.

    A `for` ends with the epoch and the next `for` is the next epoch; after a `break` the next `for`
    goes on. len() is the number of batches of the current epoch. A daemon that dies and comes back is
    attached to again, at exactly the next batch. Close it, use it in `with`, or let it go.

    One thread at a time: a second one gets a RuntimeError. A forked child gets a ChildProcessError and
    attaches for itself; the parent is not disturbed. Batches may be used and let go by any thread."""

    def __init__(self, options: Dict[str, Any], timeout: float):
        self._options = options
        self._timeout = timeout
        self._pid = os.getpid()
        self._attachment = self._open(options, timeout)
        # What was handed out by this attachment, the attachment knows; and before it:
        self._from = self._attachment.start_cursor
        self._from_epoch = 0  # of the last batch
        self._before = 0      # batches of this epoch

    @staticmethod
    def _open(options: Dict[str, Any], timeout: float) -> _seqfeed.Attachment:
        try:
            return _interruptible(lambda attempt: _seqfeed.attach(
                batch_class=Batch, tensor_class=Tensor, timeout=max(1e-9, timeout), attempt=attempt, **options))
        except OSError as error:
            if error.errno == errno.ESTALE:
                raise CursorError(error.strerror) from None
            raise

    # --- batches ---

    def __iter__(self) -> Iterator[Batch]:
        # A loop that counted may have left after the last batch, without having met the end.
        if self._seen and position(self.cursor)[0] > self._epoch:
            self.next()
        return self

    def __next__(self) -> Batch:
        batch = self._next(-1.0)
        if batch is None:
            raise StopIteration
        return batch

    def next(self, timeout: Optional[float] = None) -> Optional[Batch]:
        """The next batch, or None once at the end of each epoch. Waits for ever, or `timeout` seconds
        and raises TimeoutError. BufferError, at once: this process holds all batches there are, or the
        oldest. Drained: none will follow. ConnectionRefusedError: the daemon is gone and none came back.
        OSError: the stream failed, as over damaged data; the sentence names file and block."""
        if timeout is None:
            return self._next(-1.0)
        seconds = max(0.0, timeout)
        return self._next(seconds, time.monotonic() + seconds)

    # After a training step caches are cold, and each line of Python counts.
    def _next(self, seconds: float, deadline: Optional[float] = None) -> Optional[Batch]:
        try:
            got = self._attachment.next(seconds)
        except ConnectionResetError:
            got = self._take_again("next", seconds, deadline=deadline)
        if got.__class__ is int:
            self._ended(got)
            return None
        batch: Batch = got
        return batch

    def _take_again(self, way: str, *arguments: Any, deadline: Optional[float] = None) -> Any:
        """The attachment has been lost: what this method of the one after it gives, a batch, or a
        number, which is for _ended(). deadline: of the only argument, which says how long to wait."""
        while True:
            self._again(deadline)
            if deadline is not None:
                arguments = (max(0.0, deadline - time.monotonic()),)
            try:
                return getattr(self._attachment, way)(*arguments)
            except ConnectionResetError:
                pass

    @property
    def _seen(self) -> int:
        """Batches of this epoch that were handed out."""
        return self._before + self._attachment.seen

    @property
    def _epoch(self) -> int:
        """That of the batch that was handed out last."""
        return self._attachment.epoch if self._attachment.seen else self._from_epoch

    def _ended(self, outcome: int) -> None:
        if outcome == DRAINED:
            raise Drained("the daemon is draining: no batch will follow; state_dict() resumes at "
                          "another daemon")
        self._before = 0  # as the attachment has done for itself

    def _again(self, deadline: Optional[float]) -> None:
        """The daemon is gone, or was left to attach elsewhere and that failed: attach at the last cursor
        as soon as there is one again. Whatever ends this early, the next call tries again."""
        if os.getpid() != self._pid:
            raise ChildProcessError(errno.ECHILD, "this process was forked after the attach: attach again in it")
        if not self._attachment.lost:
            print("seqfeed: the daemon is gone, waiting for another", file=sys.stderr)
        limit = time.monotonic() + self._timeout
        if deadline is not None:
            limit = min(limit, deadline)
        pause = RETRY_FIRST
        cursor, epoch, seen = self.cursor, self._epoch, self._seen
        while True:
            try:
                self._move(cursor, max(0.1, limit - time.monotonic()), _from=cursor, _from_epoch=epoch,
                           _before=seen)
                return
            except (ConnectionRefusedError, ConnectionResetError, FileNotFoundError) as error:
                if time.monotonic() + pause > limit:
                    if limit == deadline:
                        raise TimeoutError(errno.ETIMEDOUT, "no batch came in time: the daemon is gone and "
                                           "none has come back yet") from error
                    raise
            time.sleep(pause)
            pause = min(2 * pause, RETRY_MOST)

    def _move(self, cursor: str, timeout: float, **place: Any) -> None:
        """Attach at a cursor, and then change what is named. Until then nothing changes but that the
        attachment is lost: whoever next asks for a batch attaches where it stood."""
        options = {**self._options, "cursor": cursor, "join_next": False}
        self._attachment.lose()
        attachment = self._open(options, timeout)
        # In one step, for a signal's handler may raise between any two.
        vars(self).update({"_from": attachment.start_cursor, **place}, _attachment=attachment, _options=options,
                          _pid=os.getpid())

    def __len__(self) -> int:
        """Batches of the current epoch for this rank: what a `for` will have given at its end."""
        try:
            rest = self._attachment.length()
        except ConnectionResetError:
            rest = self._take_again("length")
        return self._before + int(rest)

    @property
    def epoch_length(self) -> int:
        """Batches of the whole epoch for one rank of this world, also where it began in the middle."""
        try:
            return int(self._attachment.epoch_length())
        except ConnectionResetError:
            return int(self._take_again("epoch_length"))

    # --- where it stands ---

    @property
    def cursor(self) -> str:
        """Where a checkpoint made now resumes: after the batch that was handed out last."""
        return self._attachment.cursor or self._from

    def state_dict(self) -> Dict[str, Any]:
        """What the loop has consumed, as a small dictionary; rank 0's serves all ranks."""
        return {"feed": self._options["feed"], "cursor": self.cursor}

    def load_state_dict(self, state: str | Dict[str, Any]) -> None:
        """Go on after the batch that was the last one when `state`, or the cursor that it names, was
        taken. Raises what attach() raises; every process of the group does the same."""
        self.seek(_cursor_of(state))

    def seek(self, cursor: str) -> None:
        """Go on at a cursor: of a batch, or "sf1;epoch=E" for the start of an epoch. Every process of
        the group does the same. Raises what attach() raises; the feed then stands where it did, and the
        next batch is attached for anew."""
        if not isinstance(cursor, str):
            raise TypeError(f"cursor: text as a batch has it is wanted, not {cursor!r}")
        try:
            self._move(cursor, self._timeout, _before=0)
        except (OSError, ValueError) as error:
            error.add_note("The feed stands where it did: go on with it, or load another state.")
            raise

    def set_epoch(self, epoch: int) -> None:
        """Begin this epoch, unless the feed stands in it already."""
        epoch = whole("epoch", epoch, 0)
        if position(self.cursor)[0] != epoch:
            self.seek(f"sf1;epoch={epoch}")

    @property
    def plan(self) -> str:
        """What cursors are checked against, with every field in full."""
        return self._attachment.plan

    @property
    def slots(self) -> int:
        """How many batches can be held at once."""
        return self._attachment.slots

    @property
    def rank(self) -> int:
        """This process among all."""
        return int(self._options["rank"])

    @property
    def world_size(self) -> int:
        """How many ranks share the epoch."""
        return int(self._options["world"])

    # --- leaving ---

    def close(self) -> None:
        """Leave. Batches in hand stay readable until they are let go."""
        self._attachment.close()

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("an attachment stays in its process: attach in the other one")

    def __repr__(self) -> str:
        options = self._options
        return (f"<seqfeed.Feed {options['feed']}: rank {options['rank']} of {options['world']}, "
                f"epoch {position(self.cursor)[0]}>")


def _group(group: Optional[str], members: Optional[int], local: Optional[int], place: _ranks.Place,
           join: str) -> tuple[Optional[str], int, int]:
    """(group, local ranks, members); more than one seat needs a name that all share."""
    if group is not None and members is None and join == "start":
        raise ValueError("group without members: say how many processes share each batch, as "
                         "members=1 where ranks share a stream")
    seats = place.local * (members or 1)
    if group is None and seats > 1:
        group = _ranks.job()
    if group is None and seats > 1:
        if (members or 1) > 1 or local is not None:
            raise ValueError(f"{seats} processes share this stream and no launcher has named their "
                             "job: give group=, the same for all")
        return None, 1, 1  # without a name ranks cannot find each other: each decodes for itself
    return group, place.local, members or 1


def attach(feed: str, *, socket: Optional[os.PathLike[str] | str] = None, rank: Optional[int] = None,
           world_size: Optional[int] = None, local_world_size: Optional[int] = None,
           group: Optional[str] = None, members: Optional[int] = None, join: str = "start",
           resume: Optional[str | Dict[str, Any]] = None, seed: Optional[int] = None,
           timeout: float = 60.0) -> Feed:
    """Attach to a feed of a running seqfeedd.

    feed: its name in the daemon's configuration.
    socket: of the daemon; else SEQFEED_SOCKET, else the usual places.
    rank, world_size: which of how many ranks this is, both or neither; else from torchrun, Slurm or Open
    MPI, else the only rank. Rank r of W is handed the batches r, r + W, ... of the epoch.
    local_world_size: ranks of this machine, which share a stream, so that each block is decoded once;
    else from the launcher. They find each other by the launcher's name of the job, or by group.
    group, members: `members` processes of one group read the same batches, one copy in memory; the
    stream starts when all are there.
    join: "start" begins a stream; "next" joins the running one of this group at its next batch, and
    begins one where there is none. Excludes resume.
    resume: a cursor or a state_dict() to go on from; else epoch 0 from its beginning.
    seed: of the order, instead of the feed's own.
    timeout: seconds for the attach, waiting for the other seats included (0: one try), and for coming
    back to a daemon that was started again. Waiting gives the interpreter's lock away and answers Ctrl-C.

    Raises ValueError (options that make no sense), CursorError (a cursor of another plan),
    TimeoutError (names who is missing), ConnectionRefusedError (no daemon), PermissionError
    or OSError (the daemon's refusal, in its words). Any thread may attach, as often as it likes."""
    if join not in ("start", "next"):
        raise ValueError(f"join={join!r}: 'start' or 'next'{meant(join, ('start', 'next'))}")
    if join == "next" and resume is not None:
        raise ValueError("join='next' and resume exclude each other")
    if not isinstance(feed, str):
        raise TypeError(f"feed: the name of a feed in the daemon's configuration is wanted, not {feed!r}")
    rank, world_size, local_world_size, members = (
        None if value is None else whole(name, value, least, MOST)
        for name, value, least in (("rank", rank, 0), ("world_size", world_size, 1),
                                   ("local_world_size", local_world_size, 1), ("members", members, 1)))
    seed = None if seed is None else whole("seed", seed, 0, 2**64 - 1)
    if not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be a number of seconds, not {timeout!r}")
    if not timeout >= 0:
        raise ValueError(f"timeout must be a number of seconds from 0 on, not {timeout}")
    place = _ranks.place(rank, world_size, local_world_size)
    group, local, count = _group(group, members, local_world_size, place, join)
    cursor = None if resume is None else _cursor_of(resume)
    options = {"feed": feed, "socket": None if socket is None else os.fspath(socket), "group": group,
               "cursor": cursor, "rank": place.rank, "world": place.world, "local": local,
               "members": count, "seed": seed, "join_next": join == "next"}
    return Feed(options, timeout)


_WORKERS = "there are no workers, the daemon does what they would; how much it does at a time says {}"
# Options of a DataLoader, and where the same is said here.
ELSEWHERE = {name: f"a setting of the feed, for all its trainers: {setting} in the daemon's configuration"
             for name, setting in (("batch_size", "batch: {size: N}"), ("drop_last", "batch: {last: drop}"),
                                   ("shuffle", "order: {shuffle: true}"), ("sampler", "batch: {policy: ...}"),
                                   ("batch_sampler", "batch: {policy: ...}"),
                                   ("collate_fn", "tensors, pad and length"))}
ELSEWHERE.update({name: _WORKERS.format("`threads` in its configuration") for name in (
    "num_workers", "worker_init_fn", "multiprocessing_context", "persistent_workers", "in_order")})
ELSEWHERE.update(prefetch_factor=_WORKERS.format("`ring: {slots: N}` of the feed"),
                 generator="order: {seed: N} of the feed in the daemon's configuration, or seed= here")


LOADER = ("device", "zero_copy", "evaluate", "sharding")  # what Loaders take beside


def check_feed(feed: object) -> None:
    """What Loaders take: TypeError for all else."""
    if not isinstance(feed, (str, Feed)):
        raise TypeError(f"feed: the name of a feed in the daemon's configuration is wanted, or what attach() "
                        f"returned, not a {type(feed).__name__}")


def check_options(options: Dict[str, Any], **more: str) -> None:
    """Before they go to attach(): TypeError, with a sentence, for what it does not take. more: what else
    to say of a name."""
    for name in options:
        if name not in (attach.__kwdefaults__ or {}):
            known = attach.__kwdefaults__ or {}
            said = {**ELSEWHERE, **more}.get(name, f"no option of a Loader, nor one of attach(): "
                                             f"{', '.join(known)}{meant(name, [*known, *LOADER])}")
            raise TypeError(f"{name}: {said}")
