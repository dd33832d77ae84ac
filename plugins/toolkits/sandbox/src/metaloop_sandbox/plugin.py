"""What the plugin offers."""

from metaloop.manifest import Plugin

SPEC = Plugin(name="sandbox", summary="A sandbox for code that nobody has read.")
