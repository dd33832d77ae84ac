"""How alike two learners' predictions are, as functions of the query (paper, section 3)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from metaloop import Episode, Key, Outcome
from metaloop.learner import AnyLearner
from torch import Tensor


class Alignment(NamedTuple):
    """A learner beside a reference on the same tasks; every field `[task]`, means over queries."""

    loss: Tensor
    reference_loss: Tensor
    prediction_difference: Tensor
    """`|yhat - yhat_ref|`."""
    cosine: Tensor
    """Between the sensitivities `J = d yhat / d x_q`."""
    model_difference: Tensor
    """`|J - J_ref|`."""
    model_norm: Tensor
    """`|J_ref|`."""

    def means(self) -> dict[str, float]:
        """Means over tasks, and `relative_difference`: that of `|J - J_ref|` over that of `|J_ref|`."""
        found = {name: float(value.double().mean()) for name, value in self._asdict().items()}
        return found | {"relative_difference": found["model_difference"] / found["model_norm"]}


def align(
    learner: AnyLearner, theta: Any, reference: AnyLearner, reference_theta: Any, tasks: Episode, keys: Key
) -> Alignment:
    """Compare two learners that predict (`metaloop.Predicts`), each with its theta, on one batch of tasks."""
    ours, state = learner.live(theta, tasks, keys)
    theirs, reference_state = reference.live(reference_theta, tasks, keys)
    return compare(
        (ours, *response(learner, theta, state, tasks.query_x, keys)),
        (theirs, *response(reference, reference_theta, reference_state, tasks.query_x, keys)),
    )


Response = tuple[Outcome, Tensor, Tensor]


def compare(ours: Response, theirs: Response) -> Alignment:
    """Compare two learners' outcomes, predictions `[task, n, outputs]` and sensitivities `[task, n, outputs, d]`."""
    (outcome, prediction, jacobian), (reference, reference_prediction, reference_jacobian) = ours, theirs

    def mean(value: Tensor) -> Tensor:
        return value.flatten(1).mean(1)

    return Alignment(
        loss=outcome.loss,
        reference_loss=reference.loss,
        prediction_difference=mean((prediction - reference_prediction).abs()),
        cosine=mean(torch.cosine_similarity(jacobian, reference_jacobian, dim=-1)),
        model_difference=mean((jacobian - reference_jacobian).norm(dim=-1)),
        model_norm=mean(reference_jacobian.norm(dim=-1)),
    )


def response(learner: Any, theta: Any, state: Any, inputs: Tensor, keys: Key) -> tuple[Tensor, Tensor]:
    """Predictions `[task, n, outputs]` and sensitivities `d yhat / d x_q` `[task, n, outputs, d]` at the inputs.

    Each query's prediction must depend on no other query's input; then one backward pass per output gives all rows.
    """

    def predict(x: Tensor) -> Tensor:
        prediction: Tensor = learner.predict(theta, state, x, keys)
        return prediction

    prediction, pull = torch.func.vjp(predict, inputs)[:2]
    outputs = prediction.shape[-1]
    unit = torch.eye(outputs, dtype=prediction.dtype, device=prediction.device)
    directions = unit[:, None, None, :].expand(outputs, *prediction.shape)
    slopes = torch.func.vmap(lambda direction: pull(direction)[0])(directions)  # [outputs, task, n, *inputs]
    return prediction, slopes.flatten(3).permute(1, 2, 0, 3)
