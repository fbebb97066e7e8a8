"""The raw public datasets of ``transfer.py`` as graphs: 5-core, random 8:1:1 per user, content by
TF-IDF or as given.

Files are read as their publishers distribute them. Content is reduced without looking at
interactions: words of titles, tags and categories by TF-IDF and a truncated SVD, given matrices by
a truncated SVD of their centered columns.
"""

from __future__ import annotations

import html
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfTransformer
from torch_geometric.data import HeteroData

from genrec_pyg.datasets import load_dataset
from genrec_pyg.datasets.builder import build_graph
from genrec_pyg.encoders.bag import reduce_bag, weigh_counts, weigh_words
from genrec_pyg.transforms import KCore, RandomSplit

#: Width of every reduced modality. Nearest items by content need them: of the titles of
#: amazon-beauty, ten neighbors in 128 columns find half of the held-out items that those by the
#: words themselves find, in 512 four fifths.
CHANNELS = 512


def text_features(texts: list[str]) -> np.ndarray:
    """Texts ``[I]`` as ``[I, CHANNELS]``: TF-IDF of words and pairs of words, reduced; empty texts
    are zero rows.
    """
    return reduce_bag(weigh_words([html.unescape(text) for text in texts]), CHANNELS)


def flags(item: np.ndarray, label: np.ndarray, num_items: int) -> sp.csr_matrix:
    """Labels of items weighed by their inverse frequency, ``[I, labels]``."""
    shape = (num_items, int(label.max()) + 1)
    return weigh_counts(sp.csr_matrix((np.ones(len(item)), (item, label)), shape=shape))


def dense_ids(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct ids in ascending order, and the position of every id among them."""
    return np.unique(ids, return_inverse=True)


def split_graph(
    name: str,
    user: np.ndarray,
    item: np.ndarray,
    features: dict[str, np.ndarray],
    num_items: int,
    time: np.ndarray | None = None,
    seed: int = 0,
) -> HeteroData:
    """The 5-core of distinct pairs, split at random per user."""
    attributes = {} if time is None else {'time': time.astype(np.int64)}
    data = build_graph(
        user,
        item,
        np.zeros(len(user), dtype=np.int64),
        int(user.max()) + 1,
        num_items,
        features,
        name,
        attributes,
    )
    for key in ('train_mask', 'val_mask', 'test_mask'):
        del data['user', 'interacts', 'item'][key]
    return RandomSplit(val=0.1, test=0.1, seed=seed)(KCore(5)(data))


def tiktok(root: Path, seed: int = 0) -> HeteroData:
    """Published split; image and audio."""
    return load_dataset('tiktok', root, ['image', 'audio'])


def lfm2k(root: Path, seed: int = 0) -> HeteroData:
    """Published split; text and audio embeddings as distributed."""
    return load_dataset('lfm2k', root, ['text=all-MiniLM-L6-v2', 'audio=whisper'])


def ml_100k(root: Path, seed: int = 0, least: int = 0) -> HeteroData:
    """All ratings from ``least`` on; text of title, genres and plot."""
    import csv

    rows = np.loadtxt(root / 'ml-100k-posters' / 'u.data', dtype=np.int64)
    rows = rows[rows[:, 2] >= least]
    genres: dict[int, str] = {}
    with (root / 'ml-100k-posters' / 'items.csv').open(
        encoding='utf-8', errors='replace', newline=''
    ) as file:
        for row in csv.DictReader(file):
            kinds = [key for key, value in row.items() if key and value == '1' and key[0].isupper()]
            text = ' '.join([row.get('title') or '', *kinds, row.get('overview') or ''])
            genres.setdefault(int(float(row['movie_id'])), text)
    texts = [genres.get(number, '') for number in range(1, 1683)]
    return split_graph(
        'ml-100k',
        rows[:, 0] - 1,
        rows[:, 1] - 1,
        {'text': text_features(texts)},
        1682,
        rows[:, 3],
        seed,
    )


def ml_100k_likes(root: Path, seed: int = 0) -> HeteroData:
    """Ratings 4 and 5 without content."""
    data = ml_100k(root, seed, least=4)
    del data['item', 'has', 'text'], data['text']
    return data


def amazon_beauty(root: Path, seed: int = 0) -> HeteroData:
    """Titles and category paths as text."""
    user, item = [], []
    for line in (root / 'amazon-beauty' / 'sequential_data.txt').read_text().splitlines():
        first, *rest = map(int, line.split())
        user += [first - 1] * len(rest)
        item += rest
    lines = (
        (root / 'amazon-beauty' / 'items_derived.tsv').read_text(encoding='utf-8').splitlines()[1:]
    )
    texts = [''] * 12_101
    for line in lines:
        number, *rest = line.split('\t')
        texts[int(number)] = ' '.join(rest)
    return split_graph(
        'amazon-beauty',
        np.array(user),
        np.array(item),
        {'text': text_features(texts)},
        12_101,
        seed=seed,
    )


def goodbooks(root: Path, seed: int = 0) -> HeteroData:
    """The distributed matrix of item features, reduced."""
    rows = np.loadtxt(
        root / 'goodbooks-5pct' / 'ratings_random.csv', delimiter=',', skiprows=1, dtype=np.int64
    )
    given = sp.load_npz(root / 'goodbooks-5pct' / 'item_features.npz')
    x = reduce_bag(TfidfTransformer().fit_transform(abs(given)), CHANNELS)
    _, user = dense_ids(rows[:, 0])
    return split_graph('goodbooks-5pct', user, rows[:, 1] - 1, {'attributes': x}, 10_000, seed=seed)


def lastfm_2k(root: Path, seed: int = 0) -> HeteroData:
    """Tags of artists."""
    folder = root / 'lastfm-2k'
    rows = np.loadtxt(folder / 'user_artists.dat', skiprows=1, dtype=np.int64)
    tags = np.loadtxt(folder / 'user_taggedartists.dat', skiprows=1, dtype=np.int64)
    artists, item = dense_ids(rows[:, 1])
    _, user = dense_ids(rows[:, 0])
    tags = tags[np.isin(tags[:, 1], artists)]
    x = reduce_bag(flags(np.searchsorted(artists, tags[:, 1]), tags[:, 2], len(artists)), CHANNELS)
    return split_graph('lastfm-2k', user, item, {'tags': x}, len(artists), seed=seed)


def anime_5k(root: Path, seed: int = 0) -> HeteroData:
    """Titles, genres and types."""
    with zipfile.ZipFile(root / 'anime-5k' / 'anime.zip') as archive:
        with archive.open('anime/anime_history.dat') as file:
            rows = np.loadtxt(file, skiprows=1, dtype=np.int64, usecols=(0, 1))
        info = (
            archive.read('anime/anime_info.dat').decode('utf-8', errors='replace').splitlines()[1:]
        )
    texts: dict[int, str] = {}
    for line in info:
        number, *rest = line.split('\t')
        texts[int(number)] = ' '.join(rest[:3]).replace(',', ' ')
    items, item = dense_ids(rows[:, 1])
    _, user = dense_ids(rows[:, 0])
    return split_graph(
        'anime-5k',
        user,
        item,
        {'text': text_features([texts.get(int(i), '') for i in items])},
        len(items),
        seed=seed,
    )


def hin_amazon(root: Path, seed: int = 0) -> HeteroData:
    """Brands and categories."""
    folder = root / 'hin-amazon'
    rows = np.loadtxt(folder / 'user_item.dat', dtype=np.int64)
    brand, kind = (
        np.loadtxt(folder / f'item_{name}.dat', delimiter=',', dtype=np.int64)
        for name in ('brand', 'category')
    )
    num_items = max(int(x.max()) for x in (rows[:, 1], brand[:, 0], kind[:, 0])) + 1
    both = sp.hstack(
        [flags(brand[:, 0], brand[:, 1], num_items), flags(kind[:, 0], kind[:, 1], num_items)]
    )
    _, user = dense_ids(rows[:, 0])
    return split_graph(
        'hin-amazon',
        user,
        rows[:, 1],
        {'attributes': reduce_bag(both, CHANNELS)},
        num_items,
        rows[:, 3],
        seed,
    )


def video_games(root: Path, seed: int = 0) -> HeteroData:
    """No content."""
    rows = np.loadtxt(root / 'video_games' / 'Video.txt', dtype=np.int64)
    _, user = dense_ids(rows[:, 0])
    _, item = dense_ids(rows[:, 1])
    return split_graph('video_games', user, item, {}, int(item.max()) + 1, seed=seed)


#: Name to function of the folder of datasets and the seed of the split.
DATASETS: dict[str, Callable[..., HeteroData]] = {
    'tiktok': tiktok,
    'lfm2k': lfm2k,
    'ml-100k-posters': ml_100k,
    'ml-100k-likes': ml_100k_likes,
    'amazon-beauty': amazon_beauty,
    'goodbooks-5pct': goodbooks,
    'lastfm-2k': lastfm_2k,
    'anime-5k': anime_5k,
    'hin-amazon': hin_amazon,
    'video_games': video_games,
}
