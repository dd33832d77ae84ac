"""Deep Q-learning on the same environments, by stable-baselines3, at as many frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from metaloop import Context, Key, Result, Stage, UserError
from metaloop_rl.tasks import GymTask, GymTasks
from pydantic import Field

from metaloop_deep_ga.ga import DeepGA


class Dqn(Stage):
    """DQN with stable-baselines3's settings for Atari, reported beside a search; nothing is claimed about it.

    Left out, with a note, where stable-baselines3 is not installed.
    """

    like: str = Field(default="ga", description="the earlier search whose tasks are taken, and whose number of frames")
    frames: int | None = Field(default=None, ge=1, description="actions to learn from; None: the search's")
    buffer: int = Field(default=50_000, ge=1, description="transitions that are kept")
    tests: int = Field(default=200, ge=1, description="episodes of the test")
    max_steps: int = Field(default=5000, ge=1, description="actions of an episode at most")

    @classmethod
    def example(cls) -> Self:
        """A few actions."""
        return cls(frames=10, tests=1, max_steps=5)

    def run(self, context: Context) -> Mapping[str, Any]:
        """Train and test."""
        result = context.results.get(self.like)
        if not isinstance(result, Result) or not isinstance(result.experiment.tasks, GymTasks):
            raise UserError(f"{context.name}.like: {self.like!r} is no earlier search in Gymnasium's environments")
        try:
            from stable_baselines3 import DQN
        except ModuleNotFoundError:
            context.show("DQN was left out: pip install 'metaloop-deep-ga[peers]'")
            return {"test": None, "actions": 0}
        [task] = result.experiment.tasks.sample({}, 1, context.key).tasks
        actions = self.frames or actions_of(result)
        threads = torch.get_num_threads()
        images = len(result.experiment.tasks.spec.observation) == 3
        env = self._env(task, context.key.fold("train"))
        with torch.random.fork_rng():
            model = DQN(
                "CnnPolicy" if images else "MlpPolicy",
                env,
                buffer_size=self.buffer,
                learning_starts=min(2000, actions // 5),
                target_update_interval=1000,
                train_freq=4,
                exploration_fraction=0.1,
                exploration_final_eps=0.01,
                seed=context.key.fold("model").seed() % 2**31,
                device=context.device,
            )
            model.learn(actions, callback=_told(context, actions))
        torch.set_num_threads(threads)
        found = [self._play(model, self._env(task, context.key.fold("test", i))) for i in range(self.tests)]
        mean = sum(found) / len(found)
        return {"test": mean, "tests": found, "actions": actions}

    def _env(self, task: GymTask, key: Key) -> Any:
        from gymnasium.wrappers import TimeLimit
        from metaloop_rl.gym import open_env

        env: Any = TimeLimit(open_env(task), self.max_steps)
        env.reset(seed=key.seed() % 2**31)
        return env

    def _play(self, model: Any, env: Any) -> float:
        """One episode; its first observation comes after another draw of no-ops."""
        seen, total, over = env.reset()[0], 0.0, False
        while not over:
            action, _ = model.predict(seen, deterministic=True)
            seen, reward, terminated, truncated, _ = env.step(int(action))
            total, over = total + float(reward), terminated or truncated
        env.close()
        return total


def actions_of(result: Result) -> int:
    """About how many actions a search took: mean lengths of a generation's and of the champion's episodes."""
    ga = result.experiment.meta_optimizer
    assert isinstance(ga, DeepGA)
    again = min(ga.candidates, ga.population) * ga.validations
    rows = [row for row in result.history if "population/length" in row]
    total: float = sum(ga.population * row["population/length"] + again * row["length"] for row in rows)
    return round(total)


def _told(context: Context, total: int) -> Any:
    """Shows how far DQN is."""
    from stable_baselines3.common.callbacks import BaseCallback

    ticks = context.track(range(total), "DQN")

    class Told(BaseCallback):
        def _on_step(self) -> bool:
            next(ticks, None)
            return True

    return Told()
