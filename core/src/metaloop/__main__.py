"""`python -m metaloop` is the `metaloop` command."""

from metaloop.cli import main

main()
