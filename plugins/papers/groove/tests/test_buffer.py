"""The level buffer: what it keeps, what it replays, and that it never loses a level that is being played."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metaloop import Key, Outcome, TaskFamily, UserError
from metaloop.outcome import Draw, outcome
from metaloop_basics.tasks.regression import LinearRegression
from metaloop_groove.buffer import Buffer, LevelBuffer
from metaloop_groove.scores import Regret, Reported
from metaloop_rl.tasks import GymTasks
from torch import Tensor

LINES = LinearRegression(inputs=1, shots=2, queries=1)
SCORED = LevelBuffer(tasks=LINES, score=Reported(), slots=12)


def scored(values: list[float] | Tensor, done: Tensor | None = None) -> Outcome:
    return outcome(loss=torch.as_tensor(values, dtype=torch.get_default_dtype()))._replace(done=done)


def filled(family: LevelBuffer, scores: list[float]) -> tuple[Buffer, Draw[Any]]:
    """A buffer after one life on each of so many new levels."""
    state = family.begin(Key.of(0))
    draw = family.sample(state, len(scores), Key.of(1))
    return family.observe(state, draw, scored(scores)), draw


def check(family: LevelBuffer, state: Buffer) -> None:
    held = state.id[state.id >= 0]
    assert len(held.unique()) == len(held), "a level is held twice"
    empty = state.id < 0
    assert bool((state.new & ~state.active)[empty].all())
    assert bool((state.score[state.new] == -torch.inf).all()), "a level that nobody finished has a score"
    assert bool(state.score[~state.new].isfinite().all())
    assert not bool((state.ready & (state.active | state.new | empty)).any())


@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 6),
    replay=st.sampled_from([0.0, 0.5, 1.0]),
    transform=st.sampled_from(["rank", "proportional"]),
    seed=st.integers(0, 2**31),
    ends=st.lists(st.integers(0, 63), min_size=1, max_size=12),
)
def test_no_level_is_lost_while_it_is_played(
    batch: int, replay: float, transform: Any, seed: int, ends: list[int]
) -> None:
    """Lives of a batch end at any times and are replaced, as the core does it."""
    family = LevelBuffer(tasks=LINES, score=Reported(), slots=7, replay=replay, transform=transform)
    key = Key.of(seed)
    state = family.begin(key)
    lives = family.sample(state, batch, key.fold("first"))
    assert lives.tag is not None
    seen: dict[int, float] = {}
    for t, word in enumerate(ends):
        done = torch.tensor([bool(word >> i & 1) for i in range(batch)])
        score = key.fold("score", t).normal(batch)
        before = state
        state = family.observe(state, lives, scored(score, done))
        seen |= {int(i): float(s) for i, s, d in zip(lives.tag, score, done, strict=True) if d}
        check(family, state)
        assert set(lives.tag.tolist()) <= set(state.id.tolist()), "a level that is played is not in the buffer"
        assert set(state.id[state.active].tolist()) == set(lives.tag[~done].tolist())
        known = state.id[~state.new]
        assert state.score[~state.new].tolist() == [seen[int(i)] for i in known], "a score is not its level's last"
        gone = set(before.id[~before.new].tolist()) - set(state.id.tolist())
        if gone:  # what was thrown out scored no higher than any that could have been
            could = [i for i in state.id[~state.active & ~state.new].tolist() if i not in lives.tag.tolist()]
            assert max(seen[i] for i in gone) <= min((seen[i] for i in could), default=torch.inf)
        rows = done.nonzero()[:, 0]
        if not len(rows):
            continue
        ready = set(state.id[state.ready].tolist())
        new = family.sample(state, len(rows), key.fold("again", t))
        assert new.tag is not None
        again = set(new.tag.tolist()) & set(state.id.tolist())
        assert again <= ready, "a level that is played or new is replayed"
        assert len(set(new.tag.tolist())) == len(rows), "a level is drawn twice"
        assert not again or (replay > 0 and len(ready) >= len(rows))
        if replay == 1 and len(ready) >= len(rows):
            assert len(again) == len(rows)
        lives = Draw(
            type(lives.tasks)(*(old.index_copy(0, rows, n) for old, n in zip(lives.tasks, new.tasks, strict=True))),
            lives.tag.index_copy(0, rows, new.tag),
        )


def test_the_top_scored_levels_are_replayed_as_they_were() -> None:
    family = SCORED.but(replay=1.0)
    state, first = filled(family, [0.1, 3.0, 2.0, -1.0, 0.5])
    assert first.tag is not None
    again = family.sample(state, 2, Key.of(2))
    assert again.tag is not None
    assert again.tag.tolist() == first.tag[[1, 2]].tolist()
    assert all((now == then[[1, 2]]).all() for now, then in zip(again.tasks, first.tasks, strict=True))


def test_half_of_the_lives_begin_on_known_levels() -> None:
    family = LevelBuffer(tasks=LINES, score=Reported(), slots=4000)
    state, first = filled(family, [0.0] * 3000)
    tag = family.sample(state, 3000, Key.of(2)).tag
    assert tag is not None
    assert first.tag is not None
    assert float(torch.isin(tag, first.tag).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_the_proportional_transform_draws_by_softmax_of_scores() -> None:
    family = SCORED.but(replay=1.0, transform="proportional", temperature=0.5)
    state, first = filled(family, [0.0, 0.5, 1.0])
    assert first.tag is not None
    tags = torch.stack([family.sample(state, 1, Key.of(seed)).tag[0] for seed in range(2000)])  # type: ignore[index]
    share = (tags[:, None] == first.tag).double().mean(0)
    assert torch.allclose(share, torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64).softmax(0), atol=0.04)


def test_with_too_few_known_levels_all_are_new() -> None:
    family = SCORED.but(replay=1.0)
    state, first = filled(family, [1.0, 2.0])
    tag = family.sample(state, 3, Key.of(2)).tag
    assert tag is not None
    assert first.tag is not None
    assert not bool(torch.isin(tag, first.tag).any())


def test_the_reference_is_asked_for_once_for_each_level() -> None:
    asked: list[int] = []

    class Counted(Regret):
        def reference(self, family: Any, tasks: Any, key: Key, keys: Key) -> Tensor:
            asked.append(len(keys))
            return keys.fold("antagonist").normal()

    family = LevelBuffer(tasks=LINES, score=Counted(), slots=6, replay=1.0)
    state, first = filled(family, [0.0, 0.0, 0.0])
    once = state.reference[~state.new]
    draw = family.sample(state, 3, Key.of(5))
    assert first.tag is not None
    assert draw.tag is not None
    assert set(draw.tag.tolist()) == set(first.tag.tolist())
    state = family.observe(state, draw, scored([1.0, 2.0, 3.0]))
    assert asked == [3]
    assert (state.reference[~state.new] == once).all()
    order = [state.id.tolist().index(i) for i in draw.tag.tolist()]
    assert torch.equal(state.score[order], state.reference[order] + torch.tensor([1.0, 2.0, 3.0]))  # fitness is -loss


def test_levels_may_be_objects() -> None:
    family = LevelBuffer(tasks=GymTasks.example(), score=Reported(), slots=4, replay=1.0)
    state = family.begin(Key.of(0))
    draw = family.sample(state, 2, Key.of(1))
    state = family.observe(state, draw, scored([1.0, 2.0]))
    again = family.sample(state, 2, Key.of(2))
    assert again.tasks == draw.tasks[::-1]


def test_what_can_not_be_is_refused() -> None:
    with pytest.raises(UserError, match="LevelBuffer learns from outcomes itself"):
        LevelBuffer(tasks=SCORED, score=Reported())
    state = SCORED.begin(Key.of(0))
    draw = SCORED.sample(state, 13, Key.of(1))
    with pytest.raises(UserError, match="12 slots are too few for a batch of 13"):
        SCORED.observe(state, draw, scored([0.0] * 13))
    other = SCORED.but(score=Reported(metric="value_loss"))
    with pytest.raises(UserError, match="reports no 'value_loss', only score, loss, fitness"):
        filled(other, [0.0])


def test_a_level_without_a_number_for_a_score_is_never_replayed_first() -> None:
    family = SCORED.but(replay=1.0)
    state, first = filled(family, [float("nan"), 1.0])
    assert first.tag is not None
    tag = family.sample(state, 1, Key.of(2)).tag
    assert tag is not None
    assert tag.tolist() == first.tag[[1]].tolist()


def test_it_is_a_family_like_any_other() -> None:
    assert isinstance(SCORED, TaskFamily)
    assert SCORED.spec == LINES.spec
