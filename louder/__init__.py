"""Generative recommenders: from raw interaction logs to recommendations."""

__version__ = "0.1.0"


def load(run, table=None):
    """Load the best checkpoint of a run: `louder.load("runs/demo").recommend(user=42, k=10)`."""
    from louder.inference.recommender import Recommender  # torch is heavy, and `louder --help` needs none of it

    return Recommender(run, table)
