"""python -m benchmarks NAME: see --help."""

from benchmarks.commands import main

main()
