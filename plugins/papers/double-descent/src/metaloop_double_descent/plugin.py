"""What this package offers."""

from metaloop.manifest import Plugin

SPEC = Plugin("double-descent", "what of optimization makes the test error peak at the interpolation threshold")
