"""Which models a service takes in place of a live one: damaged ones, and honest successors.

    python -m benchmarks.canaries runs/ml1m-rank-hstu --table tables/ml-1m [--successor RUN ...]

The live model is the run; each damaged one has its weights changed. They are tried with the latest histories of known users.
"""

import argparse
import shutil
import tempfile
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from louder import checkpoint
from louder.data.histories import histories
from louder.errors import InputError
from louder.inference.engine import Engine
from louder.results import Row, append_row, provenance
from louder.serving.canaries import check
from louder.serving.service import CANARIES

KEEP = 1_000  # events of a user


def changed(run: Path, how: str, folder: Path) -> Path:
    """A copy of the run whose weights are zero, random, shuffled, or what they were and as much noise."""
    copy = folder / how
    shutil.copytree(run, copy)
    file = checkpoint.best(copy) / "model.safetensors"
    weights, torch_seed = load_file(file), torch.Generator().manual_seed(0)
    for name, x in weights.items():
        if not x.is_floating_point():
            continue
        noise = torch.randn(x.shape, generator=torch_seed)
        if how == "zero":
            weights[name] = torch.zeros_like(x)
        elif how == "random":
            weights[name] = 0.02 * noise
        elif how == "shuffled":
            weights[name] = x.flatten()[torch.randperm(x.numel(), generator=torch_seed)].view(x.shape).contiguous()
        else:
            weights[name] = x + float(x.std(unbiased=False)) * noise
    save_file(weights, file)
    return copy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--successor", type=Path, nargs="*", default=[])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    live = Engine(options.run, table=options.table)
    known = [history for _, history in islice(histories(live.table, KEEP), CANARIES)]
    with tempfile.TemporaryDirectory() as folder:
        damaged = {how: changed(options.run, how, Path(folder)) for how in ("zero", "random", "shuffled", "noise")}
        tried = damaged | {f"successor {run.name}": run for run in options.successor}
        for name, run in tried.items():
            try:
                check(live, Engine(run, table=options.table), known)
                said = ""
            except InputError as error:
                said = str(error)
            row: Row = {"bench": "canaries", "case": name, "users": len(known), "refused": said}
            print(f"{name:24} {said or 'taken'}")
            if options.json:
                append_row(options.json, row | provenance())


if __name__ == "__main__":
    main()
