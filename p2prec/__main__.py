"""`python -m p2prec` is `p2prec`."""

from p2prec.cli import main

main()
