"""What the paper claims, as measurements. Replace the one below with three to six of the paper's own."""

from __future__ import annotations

from metaloop.claims import Claim, Less

from metaloop_template import measures

CLAIMS = (
    Claim(
        "C1",
        "meta-learning the start and the step size makes the error on held-out tasks less than half of what it was",
        "(section or figure of the paper)",
        "(the paper's value)",
        measures.held_out_error,
        Less(0.5, ratio=True),
        minutes=0.2,
    ),
)
