"""What made the results in experiments/results, run from a checkout: `python -m experiments.NAME`."""
