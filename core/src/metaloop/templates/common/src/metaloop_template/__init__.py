"""A plugin for metaloop; `plugin.py` says what it offers."""
