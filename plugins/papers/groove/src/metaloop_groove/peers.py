"""stable-baselines3's A2C on one level: what the antagonist is checked against."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from metaloop import UserError
from metaloop_rl.tasks import Worlds

if TYPE_CHECKING:
    import stable_baselines3


def peer(level: Worlds, workers: int, segment: int = 20, **options: Any) -> stable_baselines3.A2C:
    """An untrained peer with a linear policy of the state's number and plain SGD, and the antagonist's other settings.

    Args:
        level: one level, without a leading axis.
        workers: environments side by side.
        segment: environment steps between updates.
        options: more arguments of the peer's.

    Raises:
        UserError: it is not installed.
    """
    try:
        from stable_baselines3 import A2C
        from stable_baselines3.common.vec_env import DummyVecEnv
    except ModuleNotFoundError as error:
        raise UserError(f"the peer needs stable-baselines3: pip install 'metaloop-groove[peers]' ({error})") from None
    from metaloop_rl.adapters import GymnasiumEnv

    env = DummyVecEnv([partial(GymnasiumEnv, level.env, level.parameters) for _ in range(workers)])
    policy = {"net_arch": [], "optimizer_class": torch.optim.SGD, "optimizer_kwargs": {}, "ortho_init": False}
    common = {"gamma": 0.99, "gae_lambda": 0.95, "ent_coef": 0.01, "normalize_advantage": True, "use_rms_prop": False}
    with torch.random.fork_rng(devices=[]):
        return A2C("MlpPolicy", env, n_steps=segment, policy_kwargs=policy, seed=0, device="cpu", **(common | options))
