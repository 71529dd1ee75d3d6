"""stjax from the command line: `python -m stjax`."""

from stjax.cli import main

main()
