"""Speed and memory of what Louder computes, beside its reference implementation and beside what one would use instead.

Not in the wheel: `python -m benchmarks --help` in a checkout.
"""
