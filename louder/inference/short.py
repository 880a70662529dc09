"""Why an answer is shorter than it was asked for."""

import numpy as np

from louder.inference.request import Request


def shortfall(request: Request, count: int, allowed: np.ndarray | None, seen: np.ndarray, candidates: int) -> str:
    """A sentence of what took the other items away, for who asked for k and got fewer.

    count       of the items of the catalogue
    allowed     [I] bool: what the filters leave of them; None: all
    seen        ids of the items of the history
    candidates  how many the stages after retrieval chose from
    """
    left = count if allowed is None else int(allowed.sum())
    text = f"There are {left:,} items" if allowed is None else f"The filters leave {left:,} of {count:,} items"
    known = np.unique(seen)
    gone = 0 if request.seen else len(known) if allowed is None else int(allowed[known].sum())
    if left - gone >= request.k:
        return f"The caps leave no more of {candidates:,} candidates."
    if gone == left > 0:
        return f"{text}, all of which were seen."
    return f"{text}, of which {gone:,} {'was' if gone == 1 else 'were'} seen." if gone else f"{text}."
