"""What this package offers."""

from metaloop.manifest import Plugin

SPEC = Plugin("gpicl", "black-box sequence models that learn to learn from augmented data sets")
