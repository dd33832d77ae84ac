"""What the plugin offers."""

from metaloop.manifest import Plugin

SPEC = Plugin(name="deep-ga", summary="Deep Neuroevolution: genetic algorithms (Petroski Such et al. 2017) for metaloop")
