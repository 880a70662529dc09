"""What more compute is worth: each ranker at three sizes, with the settings of its recipe otherwise.

    python -m experiments.ranking_sizes kuairand

A row is that of `louder train`, with the size. Those that are in the file already are left out.
"""

import argparse
import itertools
import tempfile
from dataclasses import replace
from pathlib import Path

from louder import recipes
from louder.config import override
from louder.results import append_row, provenance, read_rows
from louder.training.loop import train

# the middle one is the recipe, whose rows are in ranking.jsonl
SIZES: dict[str, dict[str, list[str]]] = {
    "hstu": {
        "small": ["model.layers=2", "model.width=32", "model.heads=1"],
        "large": ["model.layers=6", "model.width=128", "model.heads=4"],
        "largest": ["model.layers=8", "model.width=256", "model.heads=8"],
    },
    "dlrm": {
        "small": ["model.width=8", "model.cross_layers=1", "model.expert_hidden=[64, 32]"],
        "large": ["model.width=64", "model.cross_layers=4", "model.expert_hidden=[512, 256]"],
    },
    "wukong": {
        "small": ["model.width=16", "model.layers=1", "model.rank=8"],
        "large": ["model.width=64", "model.layers=4", "model.fmb=16", "model.lcb=16", "model.hidden=[512]"],
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", choices=["kuairand", "ml1m"])
    parser.add_argument("--models", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[42])
    parser.add_argument("--rows", type=Path, default=Path("experiments/results/ranking_sizes.jsonl"))
    arguments = parser.parse_args()
    rows = read_rows(arguments.rows) if arguments.rows.exists() else []
    done = {(row["experiment"], row["size"], row["seed"]) for row in rows}
    for seed, model in itertools.product(arguments.seeds, arguments.models):
        recipe = recipes.load(f"{arguments.log}:rank_{model}")
        for size, settings in SIZES[model].items():
            if (recipe.name, size, seed) not in done:
                config = override(recipe, [f"training.seed={seed}", *settings])
                facts = {"experiment": recipe.name, "size": size, "settings": settings}
                with tempfile.TemporaryDirectory(prefix="louder-sizes-") as folder:
                    result = train(replace(config, name=f"{recipe.name}-{size}"), Path(folder) / "run")
                append_row(arguments.rows, facts | result | provenance())


if __name__ == "__main__":
    main()
