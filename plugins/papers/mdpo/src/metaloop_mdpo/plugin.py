"""What the plugin offers."""

from metaloop.manifest import Plugin

SPEC = Plugin(name="mdpo", summary="Mirror Descent Policy Optimization (Tomar et al. 2022) for metaloop")
