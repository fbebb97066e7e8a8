r"""Bags of words or tags as features: TF-IDF, reduced by a truncated singular value
decomposition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer, TfidfVectorizer
from sklearn.preprocessing import normalize

from genrec_pyg.exceptions import ConfigError, DataError


def weigh_words(
    texts: Sequence[str], min_df: int = 2, stop_words: str | None = 'english', ngrams: int = 2
) -> sp.csr_matrix:
    r"""TF-IDF of words and sequences of words, with logarithmic counts and rows of unit length.

    Args:
        texts: Texts ``[I]``.
        min_df: Fewest texts that a word is in.
        stop_words: ``'english'`` leaves its most frequent words out, :obj:`None` none.
        ngrams: Longest sequence of words.

    Returns:
        Weights ``[I, words]``; a text without a word of the vocabulary is a zero row.

    Raises:
        DataError: If no word is left.
    """
    words = TfidfVectorizer(
        sublinear_tf=True, min_df=min_df, ngram_range=(1, ngrams), stop_words=stop_words
    )
    try:
        return words.fit_transform(texts).tocsr()
    except ValueError as error:  # of an empty vocabulary
        raise DataError(
            f'bag: {error}; accepted are texts with words that occur in at least {min_df} of them'
        ) from error


def weigh_tags(tags: Sequence[Sequence[str]], min_df: int = 1) -> sp.csr_matrix:
    r"""TF-IDF of tags, with logarithmic counts and rows of unit length.

    Args:
        tags: Tags of every item ``[I]``; a repeated one counts as often.
        min_df: Fewest items that a tag is of.

    Returns:
        Weights ``[I, tags]``; an item without a tag is a zero row.

    Raises:
        DataError: If no tag is left.
    """
    names = sorted({tag for some in tags for tag in some})
    number = {tag: place for place, tag in enumerate(names)}
    item = np.repeat(np.arange(len(tags)), [len(some) for some in tags])
    label = np.array([number[tag] for some in tags for tag in some], dtype=np.int64)
    counts = sp.csr_matrix((np.ones(len(item)), (item, label)), shape=(len(tags), len(names)))
    counts = counts[:, np.flatnonzero(counts.getnnz(axis=0) >= min_df)]
    if counts.nnz == 0:
        raise DataError(f'bag: no tag is of {min_df} items or more, accepted are items with tags')
    return weigh_counts(counts)


def weigh_counts(counts: Any) -> sp.csr_matrix:
    r"""Counts ``[I, labels]`` weighed by inverse frequency, with logarithms and rows of unit
    length.
    """
    return TfidfTransformer(sublinear_tf=True).fit_transform(sp.csr_matrix(counts)).tocsr()


def reduce_bag(x: sp.spmatrix, channels: int = 128, seed: int = 0) -> np.ndarray:
    r"""Rows of unit length, projected on the leading right singular vectors.

    Args:
        x: Weights ``[I, n]``.
        channels: Width; at most one less than the smaller side.
        seed: Seed of the randomized decomposition.

    Returns:
        float32 ``[I, channels]``; zero rows stay zero.

    Raises:
        ConfigError: If ``channels`` is below 1.
        DataError: If there are fewer than two rows or columns.
    """
    if channels < 1:
        raise ConfigError(f'channels: got {channels}, accepted are integers from 1')
    if min(x.shape) < 2:
        raise DataError(f'bag: has shape {x.shape}, accepted are at least two items and two labels')
    svd = TruncatedSVD(min(channels, min(x.shape) - 1), random_state=seed)
    return svd.fit_transform(normalize(sp.csr_matrix(x))).astype(np.float32)


def split_tags(text: str, separator: str | None) -> list[str]:
    r"""Tags in a text: what stands between separators, without blanks around; by default one
    tag.
    """
    parts: list[str] | tuple[str] = text.split(separator) if separator else (text,)
    return [part.strip() for part in parts if part.strip()]
