"""A paper's claims as measurements: measure over seeds, judge by the interval, keep the table.

A plugin names a tuple of `Claim`s in its `SPEC`; `metaloop verify` measures them:

    def loss(setting: Setting) -> Sample:
        ours, theirs = setting.share("trained", lambda: train(setting.seeds, lr=0.0 if setting.broken else 0.1))
        return Sample(treatment=ours, baseline=theirs)

    CLAIMS = (
        Claim("C1", "the loss is below 0.85 of two-step GD's", "Fig. 3", "about 0.72", loss, Less(0.85, ratio=True)),
    )

Judged seeds start at 1000: tune on seeds below.
"""

from metaloop.claims.model import FIRST_JUDGED_SEED, Claim, ClaimResult, Setting, VerifyReport
from metaloop.claims.records import load_record, record
from metaloop.claims.relation import Relation
from metaloop.claims.relations import Greater, Identity, Less, RankCorrelation, Rate, Within
from metaloop.claims.sample import MIN_UNITS, Interval, Judgement, Sample, Verdict
from metaloop.claims.table import markdown, render
from metaloop.claims.verify import ClaimProgress, verify

__all__ = [
    "FIRST_JUDGED_SEED",
    "MIN_UNITS",
    "Claim",
    "ClaimProgress",
    "ClaimResult",
    "Greater",
    "Identity",
    "Interval",
    "Judgement",
    "Less",
    "RankCorrelation",
    "Rate",
    "Relation",
    "Sample",
    "Setting",
    "Verdict",
    "VerifyReport",
    "Within",
    "load_record",
    "markdown",
    "record",
    "render",
    "verify",
]
