"""Generative and impression-level training of one ranker, to equal NE ("Actions Speak Louder than Words", section 2.3).

    OMP_NUM_THREADS=1 python -m experiments.generative_to_equal_ne --seconds 480

The same HSTU (ml1m:rank_hstu without the next item) is trained twice: all exposures of a history in one pass, and a pass
for each. A batch is as many sequences in both. The validation part is measured on the way; seconds are those of the
processor, in training alone. The impression-level run goes on for `--seconds`, the generative one for a quarter of that.
"""

import argparse
import time
from pathlib import Path

import torch

from louder import recipes
from louder.config import override
from louder.results import Row, append_row, provenance
from louder.training.config import Config
from louder.training.optimizers import make_optimizers, update
from louder.training.ranking import RankingTask, open_ranking_table
from louder.training.tasks import open_task

FIRST_STEPS, GROWTH = 4, 1.3  # validation is measured after so many steps, then after each time so many more


def curve(config: Config, seconds: float) -> list[Row]:
    """Train for so long; a point for each time that the validation part was measured."""
    task = open_task(config)
    assert isinstance(task, RankingTask)
    # causal, so one pass over a history scores its exposures as a pass for each would
    one_pass = override(config, ["ranking.one_pass=true"])
    judge = RankingTask(one_pass, open_ranking_table(one_pass))
    device = torch.device("cpu")
    torch.manual_seed(config.training.seed)
    model = task.build().train()
    optimizers = make_optimizers(model, config.training)
    points: list[Row] = []
    spent, steps, exposures, epoch, next_point = 0.0, 0, 0, 0, float(FIRST_STEPS)
    while spent < seconds:
        began = time.process_time()
        for batch in task.loader.batches(epoch):
            torch.manual_seed(config.training.seed * 1_000_003 + steps + 1)
            update(model, optimizers, task.loss(model, batch, device), config.training.clip_norm)
            steps, exposures = steps + 1, exposures + len(batch.target_positions)
            over = spent + time.process_time() - began >= seconds
            if over or steps >= next_point:
                spent += time.process_time() - began
                ne = judge.evaluate(model, "validation", device).metrics[f"{judge.main}.ne"]
                points.append({"steps": steps, "exposures": exposures, "seconds": round(spent, 2), "ne": round(ne, 6)})
                print(config.ranking and config.ranking.one_pass, points[-1], flush=True)
                next_point = max(next_point * GROWTH, next_point + 1)
                began = time.process_time()
            if over:
                return points
        spent, epoch = spent + time.process_time() - began, epoch + 1
    return points


def compared(generative: list[Row], single: list[Row]) -> Row:
    """What the one takes to be as good as the other became."""
    best = min(single, key=lambda point: point["ne"])
    equal = next(point for point in generative if point["ne"] <= best["ne"])
    speeds = [points[-1]["exposures"] / points[-1]["seconds"] for points in (generative, single)]
    return {
        "ne": best["ne"],
        "exposures_per_s": {"generative": speeds[0], "impression": speeds[1]},
        "to_equal_ne": {"generative": equal, "impression": best},
        "times_exposures_per_s": speeds[0] / speeds[1],
        "times_as_fast_to_equal_ne": best["seconds"] / equal["seconds"],
        "times_exposures_to_equal_ne": equal["exposures"] / best["exposures"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--table", default="tables/ml-1m")
    parser.add_argument("--rows", type=Path, default=Path("experiments/results/generative_ne.jsonl"))
    arguments = parser.parse_args()
    settings = [f"data.table={arguments.table}", "ranking.next_item=0"]
    config = override(recipes.load("ml1m:rank_hstu"), settings)
    generative = curve(config, arguments.seconds / 4)
    single = curve(override(config, ["ranking.one_pass=false"]), arguments.seconds)
    facts: Row = {"experiment": "generative-to-equal-ne", "part": "validation", "seed": config.training.seed}
    facts |= {"sequences_per_batch": config.data.users_per_batch, "threads": torch.get_num_threads()}
    curves = {"curves": {"generative": generative, "impression": single}}
    append_row(arguments.rows, facts | compared(generative, single) | curves | provenance())


if __name__ == "__main__":
    main()
