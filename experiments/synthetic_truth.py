"""What the true probabilities of the synthetic ranking log score on each part: no model is expected to do better.

    louder data synth ranking -o logs/ranking
    louder etl logs/ranking/log.parquet --schema logs/ranking/schema.yaml -o tables/synthetic-ranking
    python -m experiments.synthetic_truth logs/ranking/truth.parquet --rows experiments/results/ranking_synthetic.jsonl

The rows are as those that `louder train synthetic:rank_hstu --row` writes.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from louder import recipes
from louder.config import override
from louder.data.table import Table
from louder.evaluation.ranking_metrics import RankingMetrics
from louder.results import Row, append_row, provenance
from louder.schema import ENGAGEMENT, USER
from louder.training.ranking import RankingTask, open_ranking_table


def true_probabilities(table: Table, file: Path) -> np.ndarray:
    """[T] of every event of the table, NaN for an entry of a series."""
    truth = pq.read_table(file)
    # the table is ordered by user; of one user, and in the log, events go by time
    order = np.argsort(table.user_ids.ids(truth[USER].combine_chunks()), kind="stable")
    probabilities = np.full(len(table.ids), np.nan)
    probabilities[table.kinds == ENGAGEMENT] = truth["probability"].to_numpy()[order]
    return probabilities


def score(task: RankingTask, probabilities: np.ndarray, part: str) -> Row:
    metrics = RankingMetrics(task.table.manifest.actions)
    for batch in task.parts[part].batches():
        rows = batch.rows.numpy()
        users = np.searchsorted(task.table.offsets, rows, side="right")
        metrics.update(probabilities[rows, None], batch.labels.numpy(), users)
    return metrics.report()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--table", default="tables/synthetic-ranking")
    parser.add_argument("--rows", type=Path)
    arguments = parser.parse_args()
    config = override(recipes.load("synthetic:rank_hstu"), [f"data.table={arguments.table}"])
    task = RankingTask(config, open_ranking_table(config))
    probabilities = true_probabilities(task.table, arguments.truth)
    for part in "validation", "test":
        report = score(task, probabilities, part)
        print(part, report)
        if arguments.rows:
            facts = {"experiment": "synthetic-rank-truth", "protocol": config.protocol, "part": part, "main": task.main}
            append_row(arguments.rows, facts | report | provenance())


if __name__ == "__main__":
    main()
