"""Any optimizer of `torch.optim`, as a pure function of tensors, a gradient and a plain state."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Generic, Self, TypedDict, TypeVar

import torch
from metaloop.component import Options
from metaloop.errors import UserError
from metaloop.meta_optimizer import MetaOptimizer
from metaloop.plugins import nearest
from pydantic import Field, model_validator
from torch import Tensor

Theta = dict[str, Tensor]
MetaState = TypeVar("MetaState")

_UNUSABLE = {
    "LBFGS": "it evaluates the objective several times a step",
    "SparseAdam": "it needs sparse gradients",
    "LambdaLR": "it takes a function, which a run file can't hold",
    "MultiplicativeLR": "it takes a function, which a run file can't hold",
    "SequentialLR": "it is made of other schedules",
    "ChainedScheduler": "it is made of other schedules",
}


class DescentState(TypedDict):
    """What a torch optimizer remembers, as plain values and tensors."""

    moments: dict[str, dict[str, Any]]
    """By parameter: `exp_avg`, `momentum_buffer`, `step` and the like."""
    group: dict[str, Any]
    """The optimizer's settings at this step: schedules change `lr`, some of them momentum too."""
    schedule: dict[str, Any] | None


class Descent(MetaOptimizer[Theta, MetaState], Generic[MetaState]):
    """Base of the meta-optimizers that hand a gradient, exact or estimated, to a `torch.optim` class."""

    optimizer: str = Field(default="Adam", description="name of a class in torch.optim")
    lr: float = Field(default=1e-3, ge=0, allow_inf_nan=False, description="outer learning rate")
    options: Options = Field(default=Options(), description="further arguments of the optimizer, such as betas")
    schedule: str | None = Field(default=None, description="name of a class in torch.optim.lr_scheduler")
    schedule_options: Options = Field(default=Options(), description="the schedule's arguments, such as T_max")
    clip: float | None = Field(default=None, gt=0, description="largest global norm of the gradient")

    @model_validator(mode="after")
    def _usable(self) -> Self:
        """Refuse names and arguments that torch does not know, before anything runs.

        Raises:
            UserError: naming the field, and the nearest name that there is.
        """
        _check_arguments("options", _optimizer_class(self.optimizer), self.options)
        if self.schedule is None:
            if self.schedule_options:
                raise UserError(
                    "schedule_options are given, but schedule is not: name a torch.optim.lr_scheduler class"
                )
        else:
            _check_arguments("schedule_options", _schedule_class(self.schedule), self.schedule_options)
        self._build([torch.zeros(1, 1)])
        return self

    def begin_descent(self, theta: Theta) -> DescentState:
        """The state before the first step."""
        parameters = [value.detach() for value in theta.values()]
        return _state(theta, parameters, *self._build(parameters))

    def descend(self, theta: Theta, state: DescentState, gradient: Theta, loss: Tensor) -> tuple[Theta, DescentState]:
        """One step of the optimizer and its schedule; `theta` and `state` stay as they are.

        The mean of `loss` `[task]` is what `ReduceLROnPlateau` watches.
        """
        parameters = [value.detach().clone() for value in theta.values()]
        optimizer, schedule = (self._shell, None) if self.schedule is None else self._build(parameters)
        optimizer.param_groups[0].update(state["group"], params=parameters)
        optimizer.state = defaultdict(dict)
        for parameter, name in zip(parameters, theta, strict=True):
            optimizer.state[parameter] = _copied(state["moments"][name], state["group"])
        for parameter, slope in zip(parameters, self._clipped([gradient[name] for name in theta]), strict=True):
            parameter.grad = slope
        optimizer.step()
        if schedule is not None:
            schedule.load_state_dict(dict(state["schedule"] or {}))
            self._advance(schedule, loss)
        after = _state(theta, parameters, optimizer, schedule)
        for parameter in parameters:
            parameter.grad = None
        optimizer.param_groups[0]["params"], optimizer.state = [], defaultdict(dict)
        return dict(zip(theta, parameters, strict=True)), after

    @cached_property
    def _shell(self) -> torch.optim.Optimizer:
        """An optimizer without parameters, filled and emptied in every step: making one takes as long as its step."""
        return self._build([torch.zeros(1, 1)])[0]

    def _clipped(self, gradient: list[Tensor]) -> list[Tensor]:
        """As `torch.nn.utils.clip_grad_norm_`, but not in place: the gradient may be an expanded view."""
        if self.clip is None:
            return gradient
        scale = torch.clamp(self.clip / (torch.nn.utils.get_total_norm(gradient) + 1e-6), max=1.0)
        return [slope * scale for slope in gradient]

    def _build(
        self, parameters: list[Tensor]
    ) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None]:
        """A fresh optimizer and schedule: a few microseconds, where `load_state_dict` deep-copies."""
        field = "options"
        try:
            optimizer = _optimizer_class(self.optimizer)(parameters, lr=self.lr, **self.options)
            field = "schedule_options"
            schedule = (
                None if self.schedule is None else _schedule_class(self.schedule)(optimizer, **self.schedule_options)
            )
        except (TypeError, ValueError) as error:
            name = self.optimizer if field == "options" else self.schedule
            raise UserError(f"{name} can't be used with these {field}: {error}") from None
        return optimizer, schedule

    def _advance(self, schedule: Any, loss: Tensor) -> None:
        """One step of the schedule, which may be at its end."""
        try:
            if isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
                schedule.step(float(loss.mean()))
            else:
                schedule.step()
        except ValueError as error:
            raise UserError(f"schedule {self.schedule} can't go on: {error}") from None


def _optimizer_class(name: str) -> Any:
    return _torch_class(name, torch.optim, torch.optim.Optimizer, "optimizer", "torch.optim")


def _schedule_class(name: str) -> Any:
    module = torch.optim.lr_scheduler
    return _torch_class(name, module, module.LRScheduler, "schedule", "torch.optim.lr_scheduler")


def _torch_class(name: str, module: Any, base: type, field: str, where: str) -> Any:
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, base) and found is not base):
        classes = [other for other, kind in vars(module).items() if isinstance(kind, type) and issubclass(kind, base)]
        usable = sorted({*classes} - {base.__name__} - _UNUSABLE.keys())
        hint = nearest(name, usable) or f" There are {', '.join(usable)}."
        raise UserError(f"{field}: {where} has no class {name!r}.{hint}")
    if name in _UNUSABLE:
        raise UserError(f"{field}: {name} can't be used here, because {_UNUSABLE[name]}; choose another one")
    return found


def _check_arguments(field: str, kind: type, options: Options) -> None:
    ours = {"params", "lr", "optimizer", "last_epoch"}
    known = [name for name in inspect.signature(kind).parameters if name not in ours]
    for name, value in options.items():
        if name == "lr":
            raise UserError(f"{field}: lr is a field of its own; set it there")
        if name not in known:
            hint = nearest(name, known) or f" It takes {', '.join(known)}."
            raise UserError(f"{field}: {kind.__name__} has no argument {name!r}.{hint}")
        if not _is_plain(value):
            raise UserError(
                f"{field}.{name} is a {type(value).__name__}; a run file holds numbers, text and lists only"
            )


def _is_plain(value: Any) -> bool:
    """Whether a checkpoint can hold it as it is."""
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(map(_is_plain, value.values()))
    return value is None or type(value) in (bool, int, float, str)


def _copied(moments: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter's moments, for an optimizer to change in place."""
    copies = {name: value.clone() if isinstance(value, Tensor) else value for name, value in moments.items()}
    step = copies.get("step")
    if isinstance(step, Tensor) and not (step.is_cpu or group.get("capturable") or group.get("fused")):
        copies["step"] = step.cpu()  # torch keeps it there, but a checkpoint is loaded to theta's device
    return copies


def _state(theta: Theta, parameters: list[Tensor], optimizer: torch.optim.Optimizer, schedule: Any) -> DescentState:
    return DescentState(
        moments={name: dict(optimizer.state.get(p, {})) for name, p in zip(theta, parameters, strict=True)},
        group={name: value for name, value in optimizer.param_groups[0].items() if name != "params"},
        # What is not plain (milestones, annealing functions) never changes and is built anew.
        schedule=None if schedule is None else {k: v for k, v in schedule.state_dict().items() if _is_plain(v)},
    )
