"""`python -m headwater` is `headwater`."""

from headwater.cli import run_and_exit

run_and_exit()
