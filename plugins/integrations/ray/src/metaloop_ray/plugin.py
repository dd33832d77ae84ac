"""What this package offers."""

from metaloop.manifest import Plugin

SPEC = Plugin("ray", "independent work on a Ray cluster")
