"""What the plugin offers."""

from metaloop.manifest import Plugin

SPEC = Plugin(name="adas", summary="Automated design of agentic systems (Hu, Lu, Clune 2024) for metaloop.")
