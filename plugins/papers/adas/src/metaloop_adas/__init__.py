"""Automated design of agentic systems (Hu, Lu, Clune 2024) for metaloop."""
