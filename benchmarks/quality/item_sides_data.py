r"""Real titles, plots and posters with interactions in order, for
:mod:`benchmarks.quality.item_sides`.

The last item of every user is for the test, the last but one for validation. Training interactions
with a random share of the items are taken away, so that some targets are items that training has
never seen.
"""

from __future__ import annotations

import csv
import hashlib
import html
from pathlib import Path

import numpy as np
import torch
from torch_geometric.data import HeteroData

from genrec_pyg.encoders import ImageEncoder, TextEncoder
from genrec_pyg.transforms import LeaveOneOut
from genrec_pyg.utils.files import write_atomically

#: Encoder of every kind of content, most tokens of a text, and the attribute of items that holds
#: it.
TEXT_ENCODER, IMAGE_ENCODER, MAX_LENGTH = 'minilm', 'efficientnet-lite0', 30
#: Datasets, and the contents of each.
DATASETS = {'amazon-beauty': ('title',), 'ml-100k-posters': ('title', 'image')}


def load(
    name: str, root: Path, users: int = 0, new_share: float = 0.05, seed: int = 0
) -> HeteroData:
    r"""The graph of a dataset, split, with raw content and without features.

    Args:
        name: A name of :data:`DATASETS`.
        root: Folder of the datasets.
        users: Number of users, drawn at random; 0 takes all. Items that none of them has are left
            out.
        new_share: Share of the items that training does not see.
        seed: Seed of both draws.
    """
    user, item, contents = (_amazon_beauty if name == 'amazon-beauty' else _ml_100k)(root / name)
    generator = np.random.default_rng(seed)
    if users and users < user.max() + 1:
        chosen = generator.permutation(user.max() + 1)[:users]
        keep = np.isin(user, chosen)
        user, item = user[keep], item[keep]
    user = np.unique(user, return_inverse=True)[1]
    kept, item = np.unique(item, return_inverse=True)
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = int(user.max()) + 1, len(kept)
    for attribute, values in contents.items():
        data['item'][attribute] = [values[number] for number in kept.tolist()]
    store = data['user', 'interacts', 'item']
    store.edge_index = torch.from_numpy(np.stack([user, item]))
    store.time = torch.arange(len(user))
    data = LeaveOneOut()(data)
    store = data['user', 'interacts', 'item']
    new = torch.from_numpy(generator.permutation(len(kept))[: round(new_share * len(kept))])
    store.train_mask &= ~torch.isin(store.edge_index[1], new)
    return data


def add_features(data: HeteroData, content: str, cache: Path | None = None) -> None:
    r"""Adds what the encoder, as it was loaded, makes of a content as a modality of its name.

    Args:
        data: Graph.
        content: Attribute of items.
        cache: Folder in which features are kept from run to run.
    """
    values = data['item'][content]
    key = hashlib.sha256(
        '\0'.join([TEXT_ENCODER, IMAGE_ENCODER, str(MAX_LENGTH), content, *values]).encode()
    ).hexdigest()[:16]
    file = None if cache is None else cache / f'{content}-{key}.npy'
    if file is not None and file.is_file():
        x = torch.from_numpy(np.load(file, allow_pickle=False))
    else:
        x = _encode(values, content)
        if file is not None:
            write_atomically(file, lambda target: np.save(target, x.numpy()))
    name = f'{content}_features'
    data[name].x = x
    data['item', 'has', name].edge_index = torch.arange(len(values)).expand(2, -1).contiguous()


def _encode(values: list[str], content: str, batch_size: int = 128) -> torch.Tensor:
    rows = []
    with torch.no_grad():
        if content == 'image':
            encoder = ImageEncoder.from_pretrained(IMAGE_ENCODER)
            encoder.eval()  # by the running statistics of norms
            gray = torch.full((3, *encoder.preprocessing.size), 128, dtype=torch.uint8)
            for start in range(0, len(values), batch_size):
                rows.append(
                    encoder(
                        torch.stack(
                            [
                                encoder.pixels(file) if file else gray
                                for file in values[start : start + batch_size]
                            ]
                        )
                    )
                )
            return torch.cat(rows)
        encoder = TextEncoder.from_pretrained(TEXT_ENCODER, max_length=MAX_LENGTH, lowercase=True)
        encoder.eval()  # without dropout
        tokens = encoder.token_lists(values)
        order = sorted(range(len(tokens)), key=lambda number: len(tokens[number]))
        for start in range(0, len(order), batch_size):
            rows.append(
                encoder(
                    *encoder.pad([tokens[number] for number in order[start : start + batch_size]])
                )
            )
        x = torch.empty(len(order), encoder.width)
        x[torch.tensor(order)] = torch.cat(rows)
        return x


def _amazon_beauty(folder: Path) -> tuple[np.ndarray, np.ndarray, dict[str, list[str]]]:
    user, item = [], []
    for line in (folder / 'sequential_data.txt').read_text().splitlines():
        first, *rest = map(int, line.split())
        user += [first] * len(rest)
        item += rest
    titles = [''] * (max(item) + 1)
    for line in (folder / 'items_derived.tsv').read_text(encoding='utf-8').splitlines()[1:]:
        number, title, _ = line.split('\t')
        titles[int(number)] = html.unescape(title)
    return np.array(user), np.array(item), {'title': titles}


def _ml_100k(folder: Path) -> tuple[np.ndarray, np.ndarray, dict[str, list[str]]]:
    rows = np.loadtxt(folder / 'u.data', dtype=np.int64)
    rows = rows[np.lexsort((rows[:, 1], rows[:, 3], rows[:, 0]))]
    plots = [''] * (rows[:, 1].max() + 1)
    with (folder / 'items.csv').open(encoding='utf-8', errors='replace', newline='') as file:
        for row in csv.DictReader(file):  # films on several rows are equal there
            plots[int(float(row['movie_id']))] = f'{row["title"]} {row["overview"] or ""}'.strip()
    files = [folder / 'posters' / f'{number}.jpg' for number in range(len(plots))]
    posters = [str(file.resolve()) if file.is_file() else '' for file in files]
    return rows[:, 0], rows[:, 1], {'title': plots, 'image': posters}
