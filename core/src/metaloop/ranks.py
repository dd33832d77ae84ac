"""Ranks: the processes that `torchrun` starts for one experiment, and all that they say to each other.

Every rank runs the same program, draws the same tasks and holds the same theta; the engine gives each its own rows of
a batch. Rank 0 leads: it alone writes and prints.

What keeps ranks from waiting for each other for ever is one rule: before ranks exchange numbers they agree, in a small
round in which each may say that it failed. A rank that fails takes part in one more round, whichever the others are in.

Importing this module imports no torch.
"""

from __future__ import annotations

import atexit
import os
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from metaloop.errors import RunError, UserError

if TYPE_CHECKING:
    from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")

_WORDS = 4
"""Numbers in a round of agreement."""
_PATIENCE = timedelta(days=1)
"""A rank that dies is noticed at once; one that is busy (a long stage on rank 0) is waited for."""
_MARK = "METALOOP_RANK_PROCESS"
"""Whose process a rank is: processes that it starts inherit torchrun's variables, and are no ranks."""
_splitting: ContextVar[Ranks | None] = ContextVar("ranks", default=None)
_failed: set[str] = set()
"""What errors ranks have told each other of, by kind."""
_apart: ContextVar[bool] = ContextVar("apart", default=False)


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is; one of one where `torchrun` did not start it."""

    rank: int = 0
    size: int = 1
    local: int = 0
    """The rank among those on this machine: the GPU to take."""

    @property
    def leads(self) -> bool:
        """Whether this is the rank that writes and prints."""
        return self.rank == 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """What fails inside on one rank fails on all of them, and all leave at the same time; may be nested."""
        if self.size == 1:
            yield
            return
        try:
            yield
        except BaseException as error:
            if not _is_told(error):
                self._tell(error)
            raise
        self.agree()

    def agree(self, *values: int) -> tuple[int, ...]:
        """The largest of each value (four at most) over all ranks: what one wants, all do.

        Raises:
            RunError: another rank failed, or is gone.
            UserError, KeyboardInterrupt: another rank raised one.
        """
        if self.size == 1:
            return values
        failed, *found = self._round(0, values)
        if failed:
            self._hear(failed)
        return tuple(found[: len(values)])

    def agrees(self, value: int) -> bool:
        """Whether the value is the same on all ranks."""
        largest, smallest = self.agree(value, -value)
        return largest == -smallest

    def from_leader(self, text: str | None) -> str:
        """A text that rank 0 has, on all ranks."""
        self.agree()
        box = [text]
        _broadcast(box, 0)
        return str(box[0])

    def expect_same(self, tensors: Iterator[Tensor]) -> None:
        """Make sure that ranks hold the same numbers, bit by bit.

        Raises:
            RunError: they do not.
        """
        if self.size == 1:
            return
        import torch

        digest = 0
        for tensor in tensors:
            plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest = zlib.crc32(plain.numpy().tobytes(), digest)
        if not self.agrees(digest):
            raise RunError("the ranks no longer hold the same theta: something in a step differs between processes")

    def splits(self, function: Callable[P, T]) -> Callable[P, T]:
        """The function, run with its batches of tasks split over ranks; all ranks must call it."""
        if self.size == 1:
            return function

        def split(*args: P.args, **kwargs: P.kwargs) -> T:
            before = _splitting.set(self)
            try:
                return function(*args, **kwargs)
            finally:
                _splitting.reset(before)

        return split

    def rows(self, n: int) -> slice:
        """This rank's rows of `n`; none where there are fewer rows than ranks."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def _split(self, run: Callable[..., Any], batch: tuple[Any, ...]) -> Any:
        from metaloop import tree

        n = tree.length(batch[0])
        mine = self.rows(n)
        count = mine.stop - mine.start
        # A rank without rows runs the first one, only to know what there is to exchange.
        mean, rows, info = run(*(_take(part, mine if count else slice(0, 1)) for part in batch))

        def placed(leaf: Tensor) -> Tensor:
            whole = leaf.new_zeros(n, *leaf.shape[1:])
            if count:
                whole[mine] = leaf.detach()
            return whole

        def weighted(leaf: Tensor) -> Tensor:
            return leaf.detach() * (count / n) if count else leaf.new_zeros(leaf.shape)

        # Sums of zeros and one rank's rows are those rows: one exchange carries both.
        mine_of_all = tree.tree_map(weighted, mean), tree.tree_map(placed, rows)
        numbers = sum(leaf.numel() for leaf in tree.leaves(mine_of_all))
        told, most, fewest = self.agree(int(info is not None), numbers, -numbers)
        if most != -fewest:
            raise RunError("outcomes have other metrics or shapes on one rank than on another: they can't be joined")
        mean, rows = self._sum(mine_of_all)
        return mean, rows, self._joined(info, count) if told else None

    def _sum(self, values: T) -> T:
        """The sum over ranks of every tensor: one exchange for each type."""
        import torch

        from metaloop import tree

        leaves = tree.leaves(values)
        kinds: dict[Any, list[int]] = {}
        for position, leaf in enumerate(leaves):
            kinds.setdefault((leaf.dtype, leaf.device), []).append(position)
        for (dtype, _), positions in kinds.items():
            flat = torch.cat([leaves[i].reshape(-1) for i in positions])
            flat = flat.to(torch.uint8) if dtype == torch.bool else flat
            self._reduce(flat, "SUM")
            parts = torch.split(flat.to(dtype), [leaves[i].numel() for i in positions])
            for i, part in zip(positions, parts, strict=True):
                leaves[i] = part.reshape(leaves[i].shape)
        summed = iter(leaves)
        return tree.tree_map(lambda _: next(summed), values)

    def _joined(self, info: Any, count: int) -> list[Any]:
        """What tasks said, of all ranks in order."""
        import torch.distributed as dist

        said: list[Any] = [None] * self.size
        with _contact():
            dist.all_gather_object(said, (info or [None] * count) if count else [], group=_group())
        return [word for part in said for word in part]

    def _round(self, failed: int, values: tuple[int, ...] = ()) -> list[int]:
        import torch

        words = torch.tensor([failed, *values, *[0] * (_WORDS - len(values))])
        self._reduce(words, "MAX")
        return words.tolist()

    def _reduce(self, numbers: Tensor, how: str) -> None:
        import torch.distributed as dist

        with _contact():
            dist.all_reduce(numbers, getattr(dist.ReduceOp, how), group=_group())

    def _tell(self, error: BaseException) -> None:
        """Say that this rank failed; the lowest rank that did says why."""
        _mark_told(error)
        with suppress(RunError, UserError):  # the others are gone: this rank's own error is the one to see
            speaker = self.size - self._round(self.size - self.rank)[0]
            _broadcast([_described(error)], speaker)

    def _hear(self, failed: int) -> None:
        """Raise what another rank failed with."""
        speaker = self.size - failed
        box: list[Any] = [None]
        _broadcast(box, speaker)
        error = _raised(speaker, box[0])
        _mark_told(error)
        raise error


def here() -> Ranks:
    """This process's place, from the variables that `torchrun` sets."""
    told = os.environ
    if "TORCHELASTIC_RUN_ID" not in told or _apart.get():
        return _ALONE
    if told.setdefault(_MARK, str(os.getpid())) != str(os.getpid()):
        return _ALONE
    return Ranks(int(told["RANK"]), int(told["WORLD_SIZE"]), int(told["LOCAL_RANK"]))


_ALONE = Ranks()


@contextmanager
def apart() -> Iterator[None]:
    """For what rank 0 does while the others wait: it is on its own, also with experiments that it runs meanwhile."""
    before = _apart.set(True)
    try:
        yield
    finally:
        _apart.reset(before)


def refuse(what: str, instead: str) -> None:
    """Refuse what can't be spread over ranks.

    Raises:
        UserError: this process is one of several ranks.
    """
    if here().size > 1:
        raise UserError(f"{what} can't be run by torchrun: {instead}")


def split(run: Callable[..., Any], *batch: Any) -> Any:
    """`run(*batch)`, in an experiment's steps with the rows of the batch split over ranks; equal on all of them.

    Args:
        run: gives a mean over the rows it was given (a gradient; `()` for none), a tree of rows, and what tasks say
            or None.
        batch: trees of tensors, lists or (not first) keys, of equally many rows.
    """
    ranks = _splitting.get()
    return run(*batch) if ranks is None else ranks._split(run, batch)


def is_split() -> bool:
    """Whether batches are split over ranks here."""
    return _splitting.get() is not None


def _take(part: Any, rows: slice) -> Any:
    from metaloop import tree
    from metaloop.key import Key

    return part[rows] if isinstance(part, list | Key) else tree.index(part, rows)


@cache
def _group() -> Any:
    """The ranks' process group, made when first needed."""
    import torch
    import torch.distributed as dist

    if not dist.is_available():
        raise UserError("torchrun needs a torch with torch.distributed, and this one has none")
    import torch.distributed.nn  # torch imports it later, when its default arguments would keep the group for ever
    from torch.distributed.rendezvous import rendezvous

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    if here().local < torch.cuda.device_count():
        torch.cuda.set_device(here().local)
    if dist.is_initialized():  # by the script that runs the experiment
        atexit.register(_group.cache_clear)
        return dist.new_group(backend=backend, timeout=_PATIENCE)
    store, rank, size = next(rendezvous("env://"))
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    atexit.register(_leave, store, rank)
    return dist.group.WORLD


def _leave(store: Any, rank: int) -> None:
    """torchrun ends all ranks as soon as one has failed: let rank 0 say how it ended before the others go."""
    import torch.distributed as dist

    with suppress(RuntimeError):  # the store is gone, or rank 0 does not come
        if rank == 0:
            store.set("metaloop/left", "")
        elif _failed:
            store.wait(["metaloop/left"], timedelta(seconds=10))
    if not _failed:
        _group.cache_clear()  # the last holder: gloo's threads must be joined before Python's own end, or they abort it
        dist.destroy_process_group()


@contextmanager
def _contact() -> Iterator[None]:
    """An exchange with the other ranks.

    Raises:
        RunError: one of them is gone.
    """
    try:
        yield
    except RuntimeError as error:
        gone = RunError(f"another rank is gone, or can't be reached ({str(error).splitlines()[0]})")
        _mark_told(gone)
        raise gone from error


def _broadcast(box: list[Any], speaker: int) -> None:
    import torch
    import torch.distributed as dist

    with _contact():
        dist.broadcast_object_list(box, speaker, group=_group(), device=torch.device("cpu"))


def _described(error: BaseException) -> dict[str, str]:
    kind = "interrupt" if isinstance(error, KeyboardInterrupt) else "mistake" if isinstance(error, UserError) else ""
    text = str(error) if isinstance(error, RunError | UserError) else f"{type(error).__name__}: {error}"
    return {"kind": kind, "text": text, "traceback": "".join(traceback.format_exception(error))}


def _raised(rank: int, told: dict[str, str]) -> BaseException:
    """The error for those who did not fail themselves."""
    if told["kind"] == "interrupt":
        return KeyboardInterrupt()
    error = (UserError if told["kind"] == "mistake" else RunError)(f"rank {rank}: {told['text']}")
    error.add_note(f"On rank {rank}:\n{told['traceback']}")
    return error


def _mark_told(error: BaseException) -> None:
    _failed.add(error.__class__.__name__)
    error._told_ranks = True  # type: ignore[attr-defined]


def _is_told(error: BaseException | None) -> bool:
    """Whether ranks know of this error, or of the one that it was made of."""
    while error is not None:
        if getattr(error, "_told_ranks", False):
            return True
        error = error.__cause__ or error.__context__
    return False
