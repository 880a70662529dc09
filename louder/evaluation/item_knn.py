"""Item-kNN: who had this item also had those (Sarwar et al., 2001). A baseline that is quick to make and hard to beat."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from louder.batch import RetrievalBatch
from louder.evaluation.retrieval import Scorer

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

NEIGHBOURS = 100  # of an item
AT_ONCE = 1000  # items whose neighbours are sought together
TIE = 1e-6  # what is equally near goes by popularity


def similarities(users: np.ndarray, items: np.ndarray, catalogue: int, *, itself: bool) -> "csr_matrix":
    """[I, I] the cosine of every item and its nearest NEIGHBOURS, by who had them.

    users, items  [N] who had what; pairs may occur more than once, and count once
    itself        whether an item is near itself, as where people come back to what they had
    """
    from scipy.sparse import csr_matrix, diags, vstack

    pairs = np.unique(np.stack([users, items]), axis=1)
    had = csr_matrix(
        (np.ones(pairs.shape[1], np.float32), (pairs[0], pairs[1])), shape=(int(users.max(initial=0)) + 1, catalogue)
    )
    norms = np.sqrt(np.asarray(had.sum(0)).ravel())
    had = (had @ diags(1 / np.maximum(norms, 1))).tocsc()
    blocks = []
    for first in range(0, catalogue, AT_ONCE):
        block = (had[:, first : first + AT_ONCE].T @ had).tocsr()
        if not itself:
            block.setdiag(0, k=first)
            block.eliminate_zeros()
        blocks.append(nearest(block))
    return vstack(blocks).tocsr()


def nearest(block: "csr_matrix") -> "csr_matrix":
    """Each row's largest NEIGHBOURS entries alone."""
    from scipy.sparse import csr_matrix

    lengths = np.diff(block.indptr)
    row = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort([-block.data, row])
    place = np.arange(len(order)) - np.repeat(block.indptr[:-1], lengths)
    kept = order[place < NEIGHBOURS]
    return csr_matrix((block.data[kept], (row[kept], block.indices[kept])), shape=block.shape)


def item_knn_scorer(near: "csr_matrix", popularity: np.ndarray, decay: float) -> Scorer:
    """Score every item by how near it is to the history, whose latest event weighs 1 and each earlier one `decay` times
    the next."""
    from scipy.sparse import csr_matrix

    common = popularity / max(1, popularity.max(initial=0)) * TIE

    def scorer(batch: RetrievalBatch) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        sequences = batch.sequences
        lengths = sequences.lengths.numpy()
        user = np.repeat(np.arange(len(lengths)), lengths)
        back = np.repeat(sequences.offsets.numpy()[1:], lengths) - 1 - np.arange(len(user))
        engaged = np.ones(len(user), bool) if sequences.kinds is None else sequences.kinds.numpy() == 0
        weights = (decay ** back[engaged]).astype(np.float32)
        items = sequences.ids.numpy()[engaged]
        read = csr_matrix((weights, (user[engaged], items)), shape=(len(lengths), near.shape[0]))

        def scores(some: Tensor) -> Tensor:
            return torch.from_numpy((read[some.numpy()] @ near).toarray() + common.astype(np.float32))

        return torch.arange(len(lengths)), scores

    return scorer
