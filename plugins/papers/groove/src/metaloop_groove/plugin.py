"""What the plugin offers."""

from metaloop.manifest import Plugin

SPEC = Plugin(
    name="groove",
    summary="Discovering general RL algorithms with adversarial environment design (Jackson et al. 2023) for metaloop.",
)
