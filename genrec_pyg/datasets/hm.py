r"""H&M's purchases as they are downloaded."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from torch_geometric.data import HeteroData

from genrec_pyg.datasets.io.regular import list_folder, open_regular
from genrec_pyg.datasets.preparation.options import Options, Report
from genrec_pyg.datasets.preparation.staging import connect, engine_errors, execute, load, stream
from genrec_pyg.datasets.sequences_with_content import IMAGE_ENDINGS, SequenceDataset
from genrec_pyg.exceptions import DataError

TRANSACTIONS, ARTICLES = 'transactions_train.csv', 'articles.csv'
#: Columns of articles that become texts of items.
_TEXTS = {'title': 'prod_name', 'abstract': 'detail_desc'}
_COLUMNS = {'user': 'customer_id', 'item': 'article_id', 'time': 't_dat'}
#: Bits of a place in the log, below the day, in the key that sorts purchases.
_PLACE_BITS = 40
#: Longest cell of the table of articles.
_LONGEST_CELL = 1 << 20


class HMDataset(SequenceDataset):
    r"""The purchases of "H&M Personalized Fashion Recommendations" (Kaggle, 2022) as they are
    downloaded: ``transactions_train.csv`` and ``articles.csv`` in the folder, and the pictures in
    ``images/010/0108775015.jpg`` where they are there.

    A customer's purchases are in the order of days, those of a day in the order of the file; of an
    article the first purchase counts. Where there are pictures, articles without one are left out,
    as Yuan et al. (SIGIR 2023, https://arxiv.org/abs/2303.13835) do. ``title`` is ``prod_name`` and
    ``abstract`` is ``detail_desc``; the ``time`` of an interaction is its day, counted from
    1970-01-01. The log is sorted out of core by DuckDB, ``pip install genrec_pyg[prepare]``.

    Args:
        root: Folder of the datasets.
        name: Name of the folder under it.
        memory: What the engine may hold, such as ``'2GB'``.
        **kwargs: Arguments of
            :class:`~genrec_pyg.datasets.sequences_with_content.SequenceDataset`.
    """

    pattern = TRANSACTIONS
    archives = {'images.zip': r'(images/)?[0-9]{3}/[0-9]{10}\.jpg'}

    def __init__(self, root: str, name: str, *args: Any, memory: str = '2GB', **kwargs: Any):
        self.memory = memory
        super().__init__(root, name, *args, **kwargs)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        return any(
            list_folder(place, TRANSACTIONS) and list_folder(place, ARTICLES)
            for place in (folder, folder / 'raw')
        )

    @property
    def raw_file_names(self) -> list[str]:
        return [TRANSACTIONS, ARTICLES]

    def read(self) -> HeteroData:
        folder = Path(self.raw_dir)
        names, texts = read_articles(folder / ARTICLES)
        pictures = find_pictures(folder)
        images = None if pictures is None else [pictures.get(name, '') for name in names]
        usable = np.ones(len(names), bool) if images is None else np.array([*map(bool, images)])
        with tempfile.TemporaryDirectory(prefix='hm-') as work, engine_errors():
            con = connect(Path(work), self.memory)
            try:
                users, user, item, day, total = self._purchases(con, names, usable)
            finally:
                con.close()
        if images is not None:
            texts['image'] = images
        return self.graph_of_pairs(users, user, item, names, texts, day, total)

    def _purchases(
        self, con: Any, names: list[str], usable: np.ndarray
    ) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray, int]:
        r"""Customers that are kept, and for each of their purchases the number of the customer, of
        the article and of the day; and how many customers there are.
        """
        path = Path(self.raw_dir) / TRANSACTIONS
        load(con, [path], Options(columns=_COLUMNS), Report())
        articles = pa.table(
            {
                'item': pa.array(names, pa.string()),
                'number': pa.array(np.arange(len(names), dtype=np.int32)),
                'usable': pa.array(usable),
            }
        )
        con.register('given', articles)
        execute(con, 'CREATE TABLE articles AS SELECT * FROM given')
        con.unregister('given')
        self._check(con, path)
        execute(
            con,
            'CREATE TABLE customers AS SELECT name, '
            '(row_number() OVER (ORDER BY name) - 1)::INTEGER AS place '
            'FROM (SELECT DISTINCT raw.user AS name FROM raw)',
        )
        execute(
            con,
            f"""CREATE TABLE pairs AS
            SELECT place, number,
                min((time::DATE - DATE '1970-01-01')::BIGINT * {1 << _PLACE_BITS} + row) AS key
            FROM raw JOIN articles USING (item) JOIN customers ON raw.user = customers.name
            WHERE usable GROUP BY ALL""",
        )
        execute(con, 'DROP TABLE raw')
        blocks = [
            [block[name].to_numpy() for name in ('place', 'number', 'key')]
            for block in stream(con, 'SELECT place, number, key FROM pairs ORDER BY place, key')
        ]
        empty = [np.zeros(0, np.int64)] * 3
        place, number, key = [np.concatenate(column) for column in zip(empty, *blocks)]
        names_found = con.sql('SELECT name FROM customers ORDER BY place').to_arrow_table()
        count = np.bincount(place, minlength=names_found.num_rows)
        enough = np.flatnonzero(count >= self.min_items)
        chosen = enough[self.drawn_users(len(enough))]
        new = np.full(len(count), -1)
        new[chosen] = np.arange(len(chosen))
        newer = np.cumsum(count)[place] - np.arange(len(place))  # 1 for the newest of a customer
        kept = (new[place] >= 0) & (newer <= (self.keep_last or len(place)))
        users = names_found['name'].take(pa.array(chosen)).to_pylist()
        return (
            users,
            new[place[kept]],
            number[kept].astype(np.int64),
            key[kept] >> _PLACE_BITS,
            len(count),
        )

    @staticmethod
    def _check(con: Any, path: Path) -> None:
        r"""Refuses purchases without a customer, a day or a known article, by line."""
        form = "regexp_full_match(coalesce(time, ''), '[0-9]{4}-[0-9]{2}-[0-9]{2}')"
        late = "coalesce(TRY_CAST(time AS DATE) >= DATE '1970-01-01', false)"
        for wrong, what, accepted in (
            ("coalesce(raw.user, '') = ''", 'raw.user', 'a customer'),
            (f'NOT ({form} AND {late})', 'time', 'a day as 2018-09-20'),
            (
                'articles.number IS NULL',
                'raw.item',
                f'an article_id of {ARTICLES}, ten digits with leading zeros',
            ),
        ):
            found = execute(
                con,
                f'SELECT row, {what} FROM raw LEFT JOIN articles USING (item) WHERE {wrong} '
                'ORDER BY row LIMIT 1',
            ).fetchone()
            if found is not None:
                raise DataError(
                    f'{path}: row {found[0] + 1} below the header has {str(found[1])[:100]!r}, '
                    f'accepted is {accepted}'
                )


def read_articles(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    r"""Ids and texts of articles in the order of the file.

    Raises:
        DataError: If a column is missing, a line has another number of fields or an article is
            there twice; the message names the line.
    """
    names: dict[str, int] = {}
    texts: dict[str, list[str]] = {name: [] for name in _TEXTS}
    try:
        with open_regular(path) as file, io.TextIOWrapper(file, 'utf-8-sig', newline='') as text:
            rows = csv.reader(text, strict=True)
            csv.field_size_limit(_LONGEST_CELL)
            header = next(rows, [])
            place = _places(header, path)
            for fields in rows:
                if len(fields) != len(header):
                    raise DataError(
                        f'{path}: line {rows.line_num} has {len(fields)} fields, accepted are '
                        f'{len(header)}'
                    )
                name = fields[place['article_id']]
                if not name or name in names:
                    raise DataError(
                        f'{path}: line {rows.line_num} has article_id {name[:100]!r}'
                        f'{f" of line {names[name]} again" if name else ""}, accepted is one line '
                        f'per article'
                    )
                names[name] = rows.line_num
                for target, column in _TEXTS.items():
                    texts[target].append(' '.join(fields[place[column]].split()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f'{path}: cannot be read as CSV in UTF-8 ({error})') from error
    if not names:
        raise DataError(f'{path}: has no article')
    return list(names), texts


def _places(header: list[str], path: Path) -> Mapping[str, int]:
    wanted = ('article_id', *_TEXTS.values())
    missing = [name for name in wanted if header.count(name) != 1]
    if missing:
        raise DataError(
            f'{path}: its header has {missing[0]} {header.count(missing[0])} times, accepted is a '
            f'first line with {", ".join(wanted)} once each'
        )
    return {name: header.index(name) for name in wanted}


def find_pictures(folder: Path) -> dict[str, str] | None:
    r"""Article to its picture, as a path from ``folder``, or :obj:`None` where there are none."""
    if not os.path.isdir(folder / 'images'):
        return None
    found = {}
    for part in ('', *list_folder(folder / 'images')):
        place = os.path.join('images', part) if part else 'images'
        for name in list_folder(folder / place) if os.path.isdir(folder / place) else ():
            stem, ending = os.path.splitext(name)
            if ending.lower() in IMAGE_ENDINGS:
                found[stem] = f'{place}/{name}'
    return found or None
