"""What the plugin offers."""

from metaloop.manifest import Plugin

SPEC = Plugin(name="notears-topo", summary="Optimizing NOTEARS objectives via topological swaps (Deng et al. 2023) for metaloop.")
