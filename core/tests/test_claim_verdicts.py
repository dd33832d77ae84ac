"""The verdicts of claims follow from honest intervals."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from metaloop.claims import Greater, Identity, Less, RankCorrelation, Rate, Relation, Sample, Within, statistics
from metaloop.errors import UserError
from scipy import stats

ONES = (1.0, 1.1, 0.9, 1.05, 0.95)
TWOS = (2.0, 2.2, 1.9, 2.1, 1.8)
SPREAD = (-3.0, 4.0, 1.0, -1.0, 2.0)
RISING = tuple(float(i) for i in range(12))


@pytest.mark.parametrize(
    ("relation", "sample", "expected"),
    [
        (Greater(0.5), Sample(TWOS, ONES), "holds"),
        (Greater(1.5), Sample(TWOS, ONES), "fails"),
        (Greater(1.0), Sample(TWOS, ONES), "inconclusive"),
        (Greater(), Sample(SPREAD, ONES), "inconclusive"),
        (Greater(-0.5), Sample(ONES, ONES), "holds"),
        (Greater(1.5, ratio=True), Sample(TWOS, ONES), "holds"),
        (Greater(2.5, ratio=True), Sample(TWOS, ONES), "fails"),
        (Greater(than=1.5), Sample(TWOS), "holds"),
        (Greater(than=2.5), Sample(TWOS), "fails"),
        (Less(0.5), Sample(ONES, TWOS), "holds"),
        (Less(1.5), Sample(ONES, TWOS), "fails"),
        (Less(0.0), Sample(TWOS, ONES), "fails"),
        (Less(0.6, ratio=True), Sample(ONES, TWOS), "holds"),
        (Less(0.4, ratio=True), Sample(ONES, TWOS), "fails"),
        (Less(0.5, ratio=True), Sample(ONES, TWOS), "inconclusive"),
        (Less(than=1.5), Sample(ONES), "holds"),
        (Less(than=0.5), Sample(ONES), "fails"),
        (Within(0.5, 1.5), Sample(TWOS, ONES), "holds"),
        (Within(-0.5, 0.5), Sample(TWOS, ONES), "fails"),
        (Within(1.0, 1.5), Sample(TWOS, ONES), "inconclusive"),
        (Within(0.8, 1.2), Sample(ONES), "holds"),
        (Within(1.8, 2.2, ratio=True), Sample(TWOS, ONES), "holds"),
        (Within(0.9, 1.1, ratio=True), Sample(TWOS, ONES), "fails"),
        (Identity(1e-9), Sample([1e-10, -1e-10]), "holds"),
        (Identity(1e-9), Sample([1e-10, -1e-8]), "fails"),
        (Identity(1e-9), Sample([1.0, 2.0], [1.0, 2.0 + 1e-12]), "holds"),
        (Identity(0.0), Sample([1.0], [2.0]), "fails"),
        (Rate(at_least=0.5), Sample([1] * 10), "holds"),
        (Rate(at_least=0.5), Sample([0] * 9 + [1]), "fails"),
        (Rate(at_least=0.5), Sample([1] * 6 + [0] * 4), "inconclusive"),
        (Rate(at_most=0.5), Sample([0] * 10), "holds"),
        (Rate(at_most=0.5), Sample([1] * 10), "fails"),
        (RankCorrelation(), Sample(RISING, [x**3 for x in RISING]), "holds"),
        (RankCorrelation(), Sample(RISING, [-x for x in RISING]), "fails"),
        (RankCorrelation(), Sample(RISING, [math.sin(9 * x) for x in RISING]), "inconclusive"),
    ],
)
def test_verdict(relation: Relation, sample: Sample, expected: str) -> None:
    judgement = relation.verdict(sample)
    assert judgement.verdict == expected, judgement.reason
    assert judgement.n == len(sample.treatment)
    assert judgement.reason
    assert judgement.method


@pytest.mark.parametrize(
    ("relation", "sample"),
    [
        (Greater(0.5), Sample(TWOS[:4], ONES[:4])),
        (Greater(1.9), Sample(TWOS[:4], ONES[:4])),
        (Greater(0.5), Sample([2.0], [1.0])),
        (Less(0.9, ratio=True), Sample([1.0], [2.0])),
        (Within(0.0, 9.0), Sample(TWOS[:4])),
        (Rate(at_least=0.01), Sample([1, 1, 1, 1])),
        (RankCorrelation(-0.9), Sample([1, 2, 3, 4], [1, 2, 3, 4])),
        (RankCorrelation(-0.9), Sample([1, 2], [1, 2])),
        (Greater(than=0.0), Sample([math.nan] * 4)),
    ],
)
def test_below_5_units_only_an_identity_gets_a_verdict(relation: Relation, sample: Sample) -> None:
    judgement = relation.verdict(sample)
    assert judgement.verdict == "inconclusive"
    assert f"n = {len(sample.treatment)}" in judgement.reason


def test_pairing_cancels_what_treatment_and_baseline_share() -> None:
    noise = np.random.default_rng(0).normal(scale=10, size=8)
    gain = 1 + 0.1 * np.random.default_rng(1).normal(size=8)
    assert Greater(0.5).verdict(Sample(noise + gain, noise)).verdict == "holds"
    assert Greater(0.5).verdict(Sample(noise + gain, noise[::-1])).verdict == "inconclusive"
    level = np.exp(noise / 10)
    assert Less(0.6, ratio=True).verdict(Sample(0.5 * level * gain, level)).verdict == "holds"
    assert Less(0.6, ratio=True).verdict(Sample(0.5 * level * gain, level[::-1])).verdict == "inconclusive"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("relation", [Greater(), Less(), Within(-9, 9), Within(-9, 9, ratio=True), Identity(9.0)])
def test_values_that_are_not_finite_never_help(relation: Relation, bad: float) -> None:
    diverged = relation.verdict(Sample((*TWOS[:4], bad), ONES))
    assert (diverged.verdict, diverged.estimate) == ("fails", None)
    assert "1 of 5 treatment values" in diverged.reason
    unknown = relation.verdict(Sample(TWOS, (*ONES[:4], bad)))
    assert unknown.verdict == "inconclusive"
    assert "1 of 5 baseline values" in unknown.reason


def test_without_variation_the_interval_is_the_value_and_says_so() -> None:
    shifted = [value + 0.1 for value in TWOS]
    for relation, sample, value in (
        (Greater(0.05), Sample(shifted, TWOS), 0.1),
        (Less(0.4, ratio=True), Sample([0.3 * value for value in TWOS], TWOS), 0.3),
        (Greater(than=0.0), Sample([7.0] * 5), 7.0),
    ):
        judgement = relation.verdict(sample)
        assert judgement.low == judgement.high == judgement.estimate == pytest.approx(value)
        assert "no variation" in judgement.method
        assert judgement.verdict == "holds"
    assert Greater().verdict(Sample(ONES, ONES)).verdict == "fails"  # nothing was learned: 0 is not above 0


def test_undefined_statistics_are_inconclusive() -> None:
    ratio = Less(0.9, ratio=True).verdict(Sample(ONES, (0.0, 1.0, 1.0, 1.0, 1.0)))
    assert ratio.verdict == "inconclusive"
    assert "above 0" in ratio.reason
    flat = RankCorrelation().verdict(Sample(RISING, [1.0] * 12))
    assert flat.verdict == "inconclusive"
    assert "no rank order" in flat.reason


@pytest.mark.parametrize(
    ("relation", "sample"),
    [
        (Greater(0.1), Sample(TWOS)),
        (Less(than=1.0), Sample(TWOS, ONES)),
        (Within(0, 1, ratio=True), Sample(TWOS)),
        (Rate(at_least=0.5), Sample(TWOS)),
        (Rate(at_least=0.5), Sample([1, 0], [1, 0])),
        (RankCorrelation(), Sample(TWOS)),
    ],
)
def test_a_sample_that_the_relation_cannot_judge_is_refused(relation: Relation, sample: Sample) -> None:
    with pytest.raises(UserError):
        relation.verdict(sample)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Greater(ratio=True),
        lambda: Less(0.5, than=1.0),
        lambda: Within(1, 1),
        lambda: Identity(-1),
        lambda: Identity(math.nan),
        lambda: Rate(),
        lambda: Rate(0.5, 0.5),
        lambda: Rate(at_most=1.0),
        lambda: RankCorrelation(1.0),
        lambda: Sample([]),
        lambda: Sample([1.0], [1.0, 2.0]),
    ],
)
def test_what_makes_no_sense_is_refused_when_written(make: Callable[[], object]) -> None:
    with pytest.raises(UserError):
        make()


LAWS: dict[str, tuple[Callable[[np.random.Generator, tuple[int, int]], np.ndarray], float]] = {
    "normal": (lambda rng, size: rng.normal(size=size), 0.0),
    "uniform": (lambda rng, size: rng.uniform(size=size), 0.5),
    "heavy tails": (lambda rng, size: rng.standard_t(3, size=size), 0.0),
    "skewed": (lambda rng, size: rng.gamma(4, size=size), 4.0),
}


@pytest.mark.parametrize("law", LAWS)
def test_mean_interval_covers_the_truth_at_5_seeds(law: str) -> None:
    draw, truth = LAWS[law]
    bounds = statistics.mean_interval(draw(np.random.default_rng(7), (2000, 5)), resamples=500)
    assert np.mean((bounds.low <= truth) & (truth <= bounds.high)) >= 0.90


def test_ratio_interval_covers_the_truth_at_5_seeds() -> None:
    rng = np.random.default_rng(8)
    shared = rng.normal(size=(2000, 5))
    baseline = np.exp(0.3 * shared)
    treatment = 0.8 * np.exp(0.3 * (0.6 * shared + 0.8 * rng.normal(size=(2000, 5))))
    bounds = statistics.ratio_interval(treatment, baseline, resamples=500)
    assert np.mean((bounds.low <= 0.8) & (bounds.high >= 0.8)) >= 0.90


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_rank_interval_covers_the_truth(rho: float) -> None:
    rng = np.random.default_rng(9)
    x, noise = rng.normal(size=(2, 500, 10))
    bounds = statistics.rank_interval(x, rho * x + math.sqrt(1 - rho**2) * noise, resamples=300)
    truth = 6 / math.pi * math.asin(rho / 2)  # Spearman's rho of a binormal law
    assert np.mean((bounds.low <= truth) & (truth <= bounds.high)) >= 0.90


def test_rate_interval_is_exact() -> None:
    bounds = statistics.rate_interval(5, 5)
    assert bounds.low == pytest.approx(0.025 ** (1 / 5))
    assert bounds.high == 1.0


def test_ratio_interval_contains_fieller_ends() -> None:
    treatment, baseline = np.array(ONES), np.array((2.0, 2.3, 1.9, 2.05, 1.7))
    bounds = statistics.ratio_interval(treatment, baseline)
    for end in (bounds.low, bounds.high):
        assert stats.ttest_1samp(treatment - float(end) * baseline, 0).pvalue <= 0.05 + 1e-9


def test_ratio_to_a_baseline_near_zero_is_unbounded() -> None:
    judgement = Less(0.9, ratio=True).verdict(Sample([1e-3] * 4 + [2e-3], [1e-6, 1e-6, 1e-6, 1e-6, 5.0]))
    assert (judgement.low, judgement.high) == (-math.inf, math.inf)
    assert judgement.verdict == "inconclusive"


def test_a_long_tail_widens_the_interval_on_its_side() -> None:
    values = np.random.default_rng(0).lognormal(sigma=1.5, size=40)
    bounds = statistics.mean_interval(values)
    student = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    assert bounds.high > student[1]
    assert bounds.low == pytest.approx(student[0])


def test_a_perfect_rank_order_of_few_pairs_is_not_certain() -> None:
    few, many = (RankCorrelation(0.5).verdict(Sample(range(n), range(n))) for n in (5, 30))
    assert (few.estimate, few.verdict) == (1.0, "inconclusive")
    assert (many.estimate, many.verdict) == (1.0, "holds")


seed_values = arrays(np.float64, st.integers(5, 9), elements=st.integers(-64, 64).map(lambda i: i / 8), unique=True)
positive_values = arrays(np.float64, 7, elements=st.integers(8, 64).map(lambda i: i / 8), unique=True)
few_examples = settings(max_examples=25, deadline=None)


@few_examples
@given(seed_values, st.integers(-5, 5))
def test_scaling_everything_scales_the_interval(values: np.ndarray, power: int) -> None:
    scale = 2.0**power
    baseline = np.roll(values, 1)
    one = Greater(0.25).verdict(Sample(values, baseline))
    scaled = Greater(0.25 * scale).verdict(Sample(scale * values, scale * baseline))
    assert scaled.verdict == one.verdict
    assert (scaled.low, scaled.high) == pytest.approx((scale * one.low, scale * one.high))


@few_examples
@given(seed_values, st.integers(-9, 9))
def test_a_common_shift_changes_nothing(values: np.ndarray, shift: int) -> None:
    baseline = np.roll(values, 1)
    one, shifted = (Within(-1, 1).interval(Sample(values + c, baseline + c)) for c in (0, shift))
    assert (shifted.low, shifted.high) == pytest.approx((one.low, one.high))


@few_examples
@given(positive_values, st.integers(-5, 5))
def test_a_ratio_has_no_unit(values: np.ndarray, power: int) -> None:
    baseline = np.roll(values, 1)
    one, scaled = (Within(0, 1, ratio=True).interval(Sample(c * values, c * baseline)) for c in (1.0, 2.0**power))
    assert (scaled.low, scaled.high) == pytest.approx((one.low, one.high))


@few_examples
@given(seed_values)
def test_less_mirrors_greater(values: np.ndarray) -> None:
    baseline = np.roll(values, 1)
    one, mirrored = Greater().interval(Sample(values, baseline)), Less().interval(Sample(baseline, values))
    assert (mirrored.low, mirrored.high) == pytest.approx((-one.high, -one.low), abs=1e-9)


@few_examples
@given(seed_values)
def test_the_estimate_lies_in_its_interval_and_ranks_ignore_monotone_maps(values: np.ndarray) -> None:
    x = np.arange(len(values))
    for relation, sample in ((Greater(), Sample(values, x)), (RankCorrelation(), Sample(x, values))):
        interval = relation.interval(sample)
        assert interval.low <= relation.estimate(sample) <= interval.high
    assert RankCorrelation().interval(Sample(x, np.exp(values))) == interval
