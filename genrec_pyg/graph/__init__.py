r"""The canonical graph: schema, checks and the training graph."""

from genrec_pyg.graph.content import Content, content_names, read_content
from genrec_pyg.graph.modality import Modality, item_modality, linked_nodes
from genrec_pyg.graph.raw_ids import raw_ids
from genrec_pyg.graph.schema import (
    HAS,
    HISTORY,
    INTERACTS,
    ITEM,
    MASKS,
    SPLITS,
    USER,
    check_graph,
    has_split,
    modality_names,
    name_list,
    pair_keys,
    read_edges,
    read_interactions,
    read_mask,
    select_modalities,
    split_edges,
)
from genrec_pyg.graph.time_order import first_positions, known_masks, read_time, timed_edges
from genrec_pyg.graph.training_graph import (
    TrainingGraph,
    check_held_out,
    held_out_digests,
    training_graph,
    unread_was_said,
)

__all__ = [
    'Content',
    'HAS',
    'HISTORY',
    'INTERACTS',
    'ITEM',
    'MASKS',
    'Modality',
    'SPLITS',
    'TrainingGraph',
    'USER',
    'check_graph',
    'check_held_out',
    'content_names',
    'has_split',
    'held_out_digests',
    'item_modality',
    'first_positions',
    'known_masks',
    'linked_nodes',
    'modality_names',
    'raw_ids',
    'name_list',
    'pair_keys',
    'read_content',
    'read_edges',
    'read_interactions',
    'read_mask',
    'read_time',
    'select_modalities',
    'split_edges',
    'timed_edges',
    'training_graph',
    'unread_was_said',
]
