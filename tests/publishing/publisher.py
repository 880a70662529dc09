"""Publishes one model after another until it is killed: python -m tests.publishing.publisher FOLDER; prints each number."""

import itertools
import sys
from pathlib import Path

import torch

from louder.publishing import Keeping, publish
from tests.publishing.versions import model, window

ROWS = 3000


def state_number(number):
    """The model of a version: its table says which."""
    state = model(items=ROWS, width=16)
    state.weights["events.items.weight"][number % ROWS] = float(number)
    state.weights["steps"] = torch.tensor(number)
    return state


def main():
    for number in itertools.count(1):
        done = publish(
            Path(sys.argv[1]),
            state_number(number),
            measured=window(),
            keeping=Keeping(longest=3, share=9.0, versions=3),
        )
        print(int(state_number(number).weights["steps"]), done.version.number, flush=True)


if __name__ == "__main__":
    main()
