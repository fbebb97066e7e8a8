r"""MIND as it is downloaded."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from torch_geometric.data import HeteroData

from genrec_pyg.datasets.io.archives import unpack
from genrec_pyg.datasets.io.download import download_file
from genrec_pyg.datasets.io.regular import list_folder
from genrec_pyg.datasets.io.tables import read_lines
from genrec_pyg.datasets.sequences_with_content import SequenceDataset
from genrec_pyg.exceptions import DataError


class MindDataset(SequenceDataset):
    r"""MIND as it is downloaded (Wu et al., ACL 2020, https://aclanthology.org/2020.acl-main.331):
    ``behaviors.tsv`` and ``news.tsv`` in the folder or in folders of it, such as
    ``MINDlarge_train`` and ``MINDlarge_dev``.

    A user's items are the history of his earliest record, then what he clicked, by time; of a news
    item the first click counts. The split is that of the interactions, not of the files.
    """

    pattern = 'behaviors.tsv'

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        return bool(_mind_folders(folder))

    @property
    def raw_dir(self) -> str:
        return str(self.folder)

    @property
    def raw_file_names(self) -> list[str]:
        found = [
            os.path.relpath(part / name, self.folder)
            for part in _mind_folders(self.folder)
            for name in ('behaviors.tsv', 'news.tsv')
        ]
        return found or ['behaviors.tsv', 'news.tsv']

    def download(self) -> None:
        r"""Fetches ``NAME_train.zip`` and ``NAME_dev.zip`` from the mirror, as MIND is
        published.

        Raises:
            DataError: If there is no mirror or it lacks them.
        """
        if not self.mirror:
            super().download()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for part in ('train', 'dev'):
                archive = self.folder / f'{self.name}_{part}.zip'
                download_file(f'{self.mirror}/{self.name}/{archive.name}', archive)
                place = self.folder / archive.stem
                place.mkdir(exist_ok=True)
                unpack(archive, place, r'(behaviors|news)\.tsv')
                archive.unlink()
        except (DataError, OSError) as error:
            raise DataError(
                f'dataset {self.name!r}: {error}. Put the folders {self.name}_train and '
                f'{self.name}_dev with behaviors.tsv and news.tsv into {self.folder}, or name '
                f'another address in GENREC_MIRROR'
            ) from error

    def read(self) -> HeteroData:
        parts = _mind_folders(self.folder)
        texts: dict[str, tuple[str, str]] = {}
        records: dict[str, list[tuple[datetime.datetime, int, list[str], list[str]]]] = {}
        for part in parts:
            for number, line in read_lines(part / 'news.tsv'):
                fields = line.split('\t')
                if len(fields) < 5 or not fields[0]:
                    raise DataError(
                        f'{part / "news.tsv"}: line {number} has {len(fields)} fields, accepted '
                        f'are news id, category, subcategory, title, abstract and more'
                    )
                texts.setdefault(fields[0], (fields[3], fields[4]))
            for number, line in read_lines(part / 'behaviors.tsv'):
                user, *record = _mind_record(part / 'behaviors.tsv', number, line)
                records.setdefault(user, []).append((record[0], number, *record[1:]))
        names = list(texts)
        place = {name: number for number, name in enumerate(names)}
        sequences = {}
        for user, found in records.items():
            found.sort(key=lambda record: record[:2])
            clicks = dict.fromkeys(
                [*found[0][2], *(news for record in found for news in record[3])]
            )
            unknown = next((news for news in clicks if news not in place), None)
            if unknown is not None:
                raise DataError(
                    f'{self.folder}: the user {user!r} clicked {unknown!r}, which no news.tsv has'
                )
            sequences[user] = [place[news] for news in clicks]
        return self.graph_of(
            sequences,
            names,
            {
                name: [texts[news][column] for news in names]
                for column, name in enumerate(('title', 'abstract'))
            },
        )


def _mind_folders(folder: Path) -> list[Path]:
    places = [
        folder,
        *(folder / name for name in list_folder(folder) if os.path.isdir(folder / name)),
    ]
    return [
        place
        for place in places
        if list_folder(place, 'behaviors.tsv') and list_folder(place, 'news.tsv')
    ]


def _mind_record(
    path: Path, number: int, line: str
) -> tuple[str, datetime.datetime, list[str], list[str]]:
    fields = line.split('\t')
    try:
        _, user, time, history, impressions = fields
        when = datetime.datetime.strptime(time, '%m/%d/%Y %I:%M:%S %p')
        clicked = [shown[:-2] for shown in impressions.split() if shown.endswith('-1')]
    except ValueError as error:
        raise DataError(
            f'{path}: line {number} is {line[:100]!r} ({error}), accepted are impression id, '
            f'user, time as 11/15/2019 8:55:22 AM, history and impressions'
        ) from error
    return user, when, history.split(), clicked
