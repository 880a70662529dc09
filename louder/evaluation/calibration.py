"""Choose on the validation part how two stages become one score (louder.inference.scoring)."""

from dataclasses import replace

import numpy as np

from louder.evaluation.answers import CUTOFF, Answers, difference, final_scores, list_metrics, logits_of, ranks
from louder.inference.scoring import Scoring
from louder.results import Row

WEIGHTS = 0.0, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0


def calibrated(found: Answers, retrieval: str) -> Scoring:
    """The temperature by which P(next) is likeliest for what came next, and then the weight whose lists find most of what
    was liked (NDCG@10) among those that find no less of what came next than retrieval alone, to within one standard error:
    to within two, the choice would as a rule stand at the edge of a loss.

    found      answers on the validation part
    retrieval  fingerprint of the checkpoint that found them
    """
    temperature = likeliest_temperature(found)
    rows: list[Row] = []
    for weight in WEIGHTS:
        scores = final_scores(found, weight, temperature)
        rows.append(
            {"weight": weight}
            | list_metrics(found, scores)
            | {"above": difference(found.users, ranks(found, scores), ranks(found, found.log_next))}
        )
    holds = [row for row in rows if row["above"]["mean"] + standard_error(row["above"]) >= 0] or rows[-1:]
    best = max(holds, key=lambda row: row[f"liked_ndcg@{CUTOFF}"] or row[f"ndcg@{CUTOFF}"])
    alone = {"weight": None} | list_metrics(found, found.log_next)
    chosen = {"requests": len(found.targets), "users": len(np.unique(found.users)), "rows": [*rows, alone]}
    return replace(Scoring(), temperature=temperature, weight=best["weight"], retrieval=retrieval, chosen=chosen)


def standard_error(gain: Row) -> float:
    return float(gain["high"] - gain["mean"]) / 1.96


def likeliest_temperature(found: Answers) -> float:
    """By ternary search: the likelihood of a softmax has one maximum in 1 / temperature."""
    trained = found.scoring.temperature
    cases = [
        (logits_of(found, own), int(np.flatnonzero(items == target)[0]))
        for items, own, target in zip(found.items, found.log_next, found.targets)
        if target in items
    ]
    if not cases:
        return trained

    def surprise(log_ratio: float) -> float:
        scoring = Scoring(temperature=float(trained / np.exp(log_ratio)))
        return -sum(float(scoring.next(own)[at]) for own, at in cases)

    low, high = -3.0, 3.0  # 20 times colder to 20 times hotter than training
    while high - low > 1e-3:
        third = (high - low) / 3
        if surprise(low + third) < surprise(high - third):
            high -= third
        else:
            low += third
    return float(trained / np.exp((low + high) / 2))
