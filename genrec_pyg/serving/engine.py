r"""Lists from a bundle, in numpy; an answer never depends on what else is asked for at the same
time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.serving.bundle import Bundle
from genrec_pyg.serving.candidates import make_candidates
from genrec_pyg.serving.history_encoder import EncodedHistory, MissingRuntimeError
from genrec_pyg.serving.members import Member, read_member
from genrec_pyg.serving.parts import Constant, Inner, exact_scores
from genrec_pyg.serving.ranking import Query, Ranked, best, masked, standardized
from genrec_pyg.serving.table_reader import TableReader
from genrec_pyg.serving.unseen import FoldIn, NewItems

#: Scores held at a time.
_MOST_SCORES = 1 << 22


class Engine:
    r"""Makes lists from the tables of a bundle.

    Scores are products in float32. Where they are inner products the best candidates, and all
    within rounding of them, are scored again in float64 and rounded, so that order and score of an
    item depend on the tables alone.

    Args:
        bundle: The bundle.
        index: ``'exact'``, or ``'approximate'`` with faiss.
        num_probes: Cells that a query of the approximate index visits.
        num_cells: Cells of that index; by default by the number of items.

    Raises:
        DataError: If the tables do not fit the manifest.
        ConfigError: If there is no such index here.
    """

    def __init__(
        self,
        bundle: Bundle,
        index: str = 'exact',
        num_probes: int = 16,
        num_cells: int | None = None,
    ):
        manifest = bundle.manifest
        self.bundle = bundle
        self.num_users, self.num_items = manifest['num_users'], manifest['num_items']
        reader = TableReader(bundle.tables, 'tables')
        self.known = reader.csr('known', self.num_users, self.num_items, values=False)
        self.trained = reader.csr('trained', self.num_users, self.num_items, values=False)
        size = self.num_users, self.num_items
        self.members = [read_member(entry, reader, *size) for entry in manifest['members']]
        self.standardized = manifest.get('standardized') is True
        if not self.members or (len(self.members) > 1 and not self.standardized):
            raise DataError(
                'manifest: members: accepted is one model, or the standardized members of a blend'
            )
        self.unable: dict[str, str] = dict(manifest['unable'])
        self._fold_in = (
            None
            if 'fold_in' in self.unable
            else self._make_fold_in(manifest.get('fold_in'), reader)
        )
        self._rank = (
            None
            if 'rank' in self.unable
            else NewItems(manifest.get('rank'), reader, self.members[0].inner)
        )
        self._unit: np.ndarray | None = None
        self._candidates = make_candidates(self._only_inner(index), index, num_probes, num_cells)

    @property
    def widths(self) -> dict[str, int]:
        r"""Widths of the features of new items by modality; empty where they cannot be ranked."""
        return {} if self._rank is None else self._rank.widths

    @property
    def reads_order(self) -> bool:
        r"""Whether histories are read in the order of time."""
        return isinstance(self._fold_in, EncodedHistory)

    def lists(self, queries: Sequence[Query]) -> list[Ranked]:
        r"""Lists of all ``queries``."""
        step, out = max(1, _MOST_SCORES // self.num_items), []
        for begin in range(0, len(queries), step):
            out += self._lists(queries[begin : begin + step])
        return out

    def similar(self, item: int, k: int) -> Ranked:
        r"""Items most like an item: by the cosine of embeddings, or what a history of this item
        alone is offered.
        """
        inner, own = self.members[0].inner, np.array([item])
        if inner is None:
            return self.lists([Query(k, own, history=own)])[0]
        if self._unit is None:
            norm = np.sqrt(np.square(inner.items).sum(axis=1, keepdims=True))
            self._unit = inner.items / np.maximum(norm, np.finfo(np.float32).tiny)
        scores = self._unit @ self._unit[item]
        scores[own] = -np.inf
        return best(
            scores,
            k,
            4e-7 * inner.items.shape[1] ** 0.5,
            lambda found: (
                self._unit[found].astype(np.float64) @ self._unit[item].astype(np.float64)
            ),
        )

    def rank(self, users: Sequence[int], features: Mapping[str, np.ndarray]) -> list[Ranked]:
        r"""Orders and scores of new items with ``features`` ``[n, d_m]`` for users; a row of NaN is
        a missing modality.
        """
        rows, out = self._rank(features), []
        for user in users:
            query = self.members[0].inner.users[user].astype(np.float64)
            scores = rows @ query if query.ndim == 1 else (rows @ query.T).max(axis=1)
            score = scores.astype(np.float32)
            order = np.argsort(-score, kind='stable')
            out.append(Ranked(order, score[order]))
        return out

    def _make_fold_in(self, spec: Any, reader: TableReader) -> FoldIn | EncodedHistory | None:
        inner = self.members[0].inner
        if not isinstance(spec, dict) or spec.get('kind') != 'network':
            return FoldIn(spec, reader, inner, self.num_items)
        try:
            return EncodedHistory(spec, self.bundle.history_encoder, inner)
        except MissingRuntimeError:
            self.unable['fold_in'] = (
                'histories are encoded by a network, which needs onnxruntime where this is served '
                '(pip install "genrec_pyg[onnx]")'
            )
            return None

    def _only_inner(self, index: str) -> Inner | None:
        if index == 'exact':
            return None
        if self.standardized or self.members[0].inner is None:
            raise ConfigError(
                f'--index: got {index!r} for {self.bundle.manifest["model"]}, whose scores are no '
                f'inner '
                "products of embeddings; accepted is 'exact'"
            )
        return self.members[0].inner

    def _lists(self, queries: Sequence[Query]) -> list[Ranked]:
        if self.standardized:
            return self._blended(queries)
        inner, _, vectors, scales = self._resolved(self.members[0], queries)
        extra = [
            self._others(self.members[0], query, scale) for query, scale in zip(queries, scales)
        ]
        out: list[Ranked | None] = [None] * len(queries)
        if self._candidates is not None:
            for place, query in enumerate(queries):
                out[place] = self._among_candidates(query, vectors[place], extra[place])
        rest = [place for place, found in enumerate(out) if found is None]
        if inner is None:
            for place in rest:
                out[place] = best(
                    masked(extra[place], queries[place]),
                    queries[place].k,
                    0.0,
                    extra[place].__getitem__,
                )
            return out
        scores = inner.scores(vectors[rest]) if rest else None
        for row, place in enumerate(rest):
            own, query = scores[row], vectors[place]
            if extra[place] is not None:
                own = own + extra[place]
            out[place] = best(
                masked(own, queries[place]),
                queries[place].k,
                inner.rounding(query),
                exact_scores(inner, query, extra[place]),
            )
        return out

    def _resolved(
        self, member: Member, queries: Sequence[Query]
    ) -> tuple[Inner | None, list[Any], np.ndarray | None, list[float | None]]:
        r"""Embeddings of the queries, where there are any, and factors of their sparse rows."""
        scale = next(
            (
                part.scale
                for part in member.others
                if not isinstance(part, Constant) and part.scale is not None
            ),
            None,
        )
        if member.inner is None:
            return None, member.others, None, [None] * len(queries)
        vectors, scales = [], []
        for query in queries:
            if query.user is not None:
                vectors.append(member.inner.users[query.user])
                scales.append(None if scale is None else scale[query.user])
            else:
                vector, factor = self._fold_in(query.history)
                vectors.append(vector)
                scales.append(factor)
        return member.inner, member.others, np.stack(vectors), scales

    def _others(self, member: Member, query: Query, scale: float | None) -> np.ndarray | None:
        if not member.others:
            return None
        out = np.zeros(self.num_items, dtype=np.float32)
        history = self.trained.row(query.user) if query.user is not None else query.history
        for part in member.others:
            part.add(out, history, scale)
        return out

    def _among_candidates(
        self, query: Query, vector: np.ndarray, extra: np.ndarray | None
    ) -> Ranked | None:
        r"""The list from the approximate index; :obj:`None` where it would be too short."""
        if query.allowed is not None:
            return None
        found = self._candidates(vector, query.k, query.left_out.size)
        if found is None:
            return None
        if extra is not None:
            found = np.union1d(found, np.flatnonzero(extra))
        found = np.setdiff1d(found, query.left_out)
        if found.size < min(query.k, self.num_items - query.left_out.size):
            return None
        score = exact_scores(self.members[0].inner, vector, extra)(found)
        order = np.argsort(-score, kind='stable')[: query.k]
        return Ranked(found[order], score[order])

    def _blended(self, queries: Sequence[Query]) -> list[Ranked]:
        total = np.zeros((len(queries), self.num_items), dtype=np.float32)
        for member in self.members:
            inner, _, vectors, scales = self._resolved(member, queries)
            scores = np.zeros_like(total) if inner is None else inner.scores(vectors)
            for row, (query, scale) in enumerate(zip(queries, scales)):
                extra = self._others(member, query, scale)
                if extra is not None:
                    scores[row] += extra
            total += standardized(scores) * np.float32(member.weight)
        return [
            best(masked(row.copy(), query), query.k, 0.0, row.__getitem__)
            for row, query in zip(total, queries)
        ]
