r"""Losses: ranking, contrastive, penalties, chunked."""

from genrec_pyg.nn.losses.ranking import (
    ROW_PENALTIES,
    bank_contrast,
    batch_l2,
    bpr_loss,
    challenged_contrast,
    cosine_distance,
    first_of_list,
    grouped_info_nce,
    hinge_loss,
    loss_in_parts,
    row_penalty,
    squared_norm,
    two_view_contrast,
)
from genrec_pyg.nn.losses.sampled import (
    NO_CANDIDATE,
    in_batch_softmax,
    in_row_blocks,
    logistic_loss,
    sampled_softmax,
    shared_negatives_softmax,
    softmax_over_items,
)

__all__ = [
    'NO_CANDIDATE',
    'ROW_PENALTIES',
    'bank_contrast',
    'batch_l2',
    'bpr_loss',
    'challenged_contrast',
    'cosine_distance',
    'first_of_list',
    'grouped_info_nce',
    'hinge_loss',
    'in_batch_softmax',
    'in_row_blocks',
    'logistic_loss',
    'loss_in_parts',
    'row_penalty',
    'sampled_softmax',
    'shared_negatives_softmax',
    'softmax_over_items',
    'squared_norm',
    'two_view_contrast',
]
