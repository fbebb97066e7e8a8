r"""Generated graphs of any size for measurements: popularity by Zipf's law, features around cluster
centers.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch_geometric.data import HeteroData

from benchmarks.common.flags import positive
from genrec_pyg.datasets import load_dataset
from genrec_pyg.datasets.builder import build_graph

#: Users, items and interactions of public datasets, for graphs of their shape.
SHAPES: dict[str, tuple[int, int, int]] = {
    'baby-shaped': (19_445, 7_050, 160_792),
    'electronics-shaped': (192_403, 63_001, 1_254_441),
}


def zipf_edges(
    num_users: int, num_items: int, num_edges: int, exponent: float = 0.8, seed: int = 0
) -> np.ndarray:
    r"""Distinct interactions ``[2, num_edges]``: uniform users, items by
    :math:`p_i \propto (i + 1)^{-s}` in random order.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        num_edges: Number of interactions, at most half of all pairs.
        exponent: Exponent :math:`s`.
        seed: Seed.

    Raises:
        ValueError: If more than half of all pairs are asked for.
    """
    if not 0 < num_edges <= num_users * num_items // 2:
        raise ValueError(
            f'num_edges: got {num_edges}, accepted are 1 to half of {num_users} x {num_items}'
        )
    rng = np.random.default_rng(seed)
    share = np.cumsum(np.arange(1, num_items + 1, dtype=np.float64) ** -exponent)
    name = rng.permutation(num_items)
    keys = np.empty(0, dtype=np.int64)
    while keys.size < num_edges:
        size = int(1.1 * (num_edges - keys.size)) + 100
        user = rng.integers(num_users, size=size)
        item = name[
            np.searchsorted(share, rng.random(size) * share[-1], side='right').clip(
                max=num_items - 1
            )
        ]
        keys = np.unique(np.concatenate([keys, user * num_items + item]))
    keys = np.sort(rng.permutation(keys)[:num_edges])
    return np.stack([keys // num_items, keys % num_items])


def zipf_graph(
    num_users: int,
    num_items: int,
    num_edges: int,
    channels: Mapping[str, int] | None = None,
    seed: int = 0,
    held_out: float = 0.02,
) -> HeteroData:
    r"""Canonical graph over :func:`zipf_edges` with features of 50 clusters per modality.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        num_edges: Number of interactions, held-out ones included.
        channels: Modality to feature width; image and text of width 64 by default.
        seed: Seed.
        held_out: Share of interactions in each of validation and test.
    """
    edges = zipf_edges(num_users, num_items, num_edges, seed=seed)
    rng = np.random.default_rng(seed + 1)
    draw = rng.random(num_edges)
    split = np.where(draw < held_out, 1, np.where(draw < 2 * held_out, 2, 0))
    features = {}
    for name, width in ({'image': 64, 'text': 64} if channels is None else channels).items():
        centers = rng.standard_normal((50, width), dtype=np.float32)
        features[name] = centers[rng.integers(50, size=num_items)] + rng.standard_normal(
            (num_items, width), dtype=np.float32
        )
    return build_graph(*edges, split, num_users, num_items, features, 'generated graph')


def named_graph(name: str, root: str) -> HeteroData:
    r"""The dataset ``name`` under ``root``, or the graph generated in the shape of that name,
    without features.
    """
    return (
        zipf_graph(*SHAPES[name], {}, held_out=0.0) if name in SHAPES else load_dataset(name, root)
    )


def graph_parser(description: str, report: str, repeats: int) -> argparse.ArgumentParser:
    r"""Parser of a script that times something on a :func:`named_graph`.

    Args:
        description: What the script does.
        report: Name of its reports, before the name of the graph.
        repeats: Default of ``--repeats``.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--root', default='data', help='folder that holds the datasets')
    parser.add_argument(
        '--dataset',
        default='tiktok',
        help=f'a folder under the root, or generated: {", ".join(SHAPES)}',
    )
    parser.add_argument('--threads', type=positive, default=1)
    parser.add_argument(
        '--repeats', type=positive, default=repeats, help='measured calls of each candidate'
    )
    parser.add_argument(
        '--output',
        type=Path,
        help=f'report without ending, default benchmarks/results/{report}-DATASET',
    )
    return parser
