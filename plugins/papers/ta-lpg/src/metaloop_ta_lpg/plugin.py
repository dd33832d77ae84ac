"""What the plugin offers."""

from metaloop.manifest import Plugin

SPEC = Plugin(name="ta-lpg", summary="Discovering temporally-aware reinforcement learning algorithms (Jackson, Lu et al. 2024) for metaloop.")
