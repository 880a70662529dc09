"""python -m benchmarks NAME: see --help."""

import sys

if sys.argv[1:2] == ["gpu"]:  # where only torch, Triton and numpy are installed
    from benchmarks.gpu import main as gpu

    sys.exit(gpu(sys.argv[2:]))

from benchmarks.commands import main

main()
