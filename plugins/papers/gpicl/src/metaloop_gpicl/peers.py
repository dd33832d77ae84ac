"""What a context can be learned from without meta-learning: scikit-learn's classifiers, and the nearest example."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from metaloop import Episode, Key, tree
from metaloop.learner import AnyLearner
from torch import Tensor

Judge = Callable[[Episode], Tensor]
"""The share of each task's queries that are classified right, `[task]`."""


@dataclass(frozen=True)
class Model:
    """A learner that predicts, with its theta."""

    learner: AnyLearner
    theta: Any

    def __call__(self, tasks: Episode) -> Tensor:
        """Accuracy of each task, `[task]`."""
        keys = Key.of(0, tasks.support_x.device).split(tree.length(tasks))
        learner: Any = self.learner
        with torch.no_grad():
            _, state = learner.live(self.theta, tasks, keys)
            return _right(learner.predict(self.theta, state, tasks.query_x, keys).argmax(-1), tasks)


def nearest(tasks: Episode) -> Tensor:
    """The class of the nearest example in context."""
    closest = torch.cdist(tasks.query_x.flatten(2), tasks.support_x.flatten(2)).argmin(-1)
    return _right(tasks.support_y.gather(1, closest), tasks)


def majority(tasks: Episode) -> Tensor:
    """The commonest class in context: what can be got without looking at inputs."""
    return _right(tasks.support_y.mode(1).values.unsqueeze(1), tasks)


def logistic_regression(tasks: Episode) -> Tensor:
    """scikit-learn's, fitted to each context."""
    from sklearn.linear_model import LogisticRegression

    return _fitted(lambda: LogisticRegression(max_iter=300), tasks)


def network(tasks: Episode) -> Tensor:
    """scikit-learn's MLP of 64 hidden units, trained by gradient descent with momentum on each context."""
    from sklearn.neural_network import MLPClassifier

    rates = {"learning_rate_init": NETWORK_RATE, "momentum": 0.9, "max_iter": 200}
    return _fitted(lambda: MLPClassifier((64,), solver="sgd", batch_size=1000, random_state=0, **rates), tasks)


NETWORK_RATE = 0.01
"""The best of 0.01, 0.03, 0.1 and 0.3 for contexts of 40 on unseen tasks of digits (40 tasks, not those of claims)."""

PEERS: dict[str, Judge] = {
    "nearest neighbour": nearest,
    "logistic regression": logistic_regression,
    "MLP from scratch": network,
    "commonest class": majority,
}


def _fitted(make: Callable[[], Any], tasks: Episode) -> Tensor:
    """A scikit-learn classifier for each task; one class alone in a context is what it then says."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of contexts that are hardly separable, and batches larger than the context
        for sx, sy, qx, qy in zip(*(part.cpu().numpy() for part in tasks), strict=True):
            said = np.full_like(qy, sy[0]) if (sy == sy[0]).all() else make().fit(sx, sy).predict(qx)
            found.append(float((said == qy).mean()))
    return torch.tensor(found, device=tasks.support_x.device)


def _right(classes: Tensor, tasks: Episode) -> Tensor:
    return (classes == tasks.query_y).to(torch.get_default_dtype()).mean(1)
