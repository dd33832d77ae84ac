"""What the plugin offers."""

from metaloop.manifest import Plugin

SPEC = Plugin(name="deep-ga", summary="Deep Neuroevolution: truncation selection, seeds as genomes, novelty")
