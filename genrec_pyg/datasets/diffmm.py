r"""The file layout of DiffMM and GenRec-V1."""

from __future__ import annotations

import json
import logging
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch_geometric.data import HeteroData

from genrec_pyg.datasets.base import LayoutDataset, Modalities, feature_key, matching_files
from genrec_pyg.datasets.builder import build_graph
from genrec_pyg.datasets.io.arrays import load_features
from genrec_pyg.datasets.io.download import download_file
from genrec_pyg.datasets.io.pickles import load_scipy_pickle
from genrec_pyg.datasets.io.regular import file_sha256, open_regular
from genrec_pyg.exceptions import DataError
from genrec_pyg.utils.files import replacing

logger = logging.getLogger(__name__)

#: Public location of the files (repository HKUDS/DiffMM, branch main).
BASE_URL = 'https://raw.githubusercontent.com/HKUDS/DiffMM/main/Datasets'
MATRICES = ('trnMat.pkl', 'valMat.pkl', 'tstMat.pkl')
#: Feature files of the sets that can be downloaded, with their shapes.
DOWNLOADABLE = {
    'tiktok': {
        'image_feat.npy': (6710, 128),
        'text_feat.npy': (6710, 768),
        'audio_feat.npy': (6710, 128),
    },
    'baby': {'image_feat.npy.zip': (7050, 4096), 'text_feat.npy': (7050, 1024)},
}
#: Sets that exist only as a file to fetch by hand.
BY_HAND = {'sports': 'the archive with Google Drive id 1PR_IK5-xMwSso2JPHZ93k3eMQ0_s9JDx'}
SHA256 = {
    'tiktok/trnMat.pkl': '1efbc49d1a7ce5268f01e3e0c558df1f8f8644628c76aa6536be4ec61d256916',
    'tiktok/valMat.pkl': 'b6971ed696613d565613dd74b101c45b2aa002b66e8ba99cad03abf04db2397b',
    'tiktok/tstMat.pkl': 'e83a93787d88728572dbdd5b131bae01a90e17c340820e7b8f0a7c27e69d6f9e',
    'tiktok/image_feat.npy': 'f6c1ec1726ed2aa80315411199ab2143bee6333821bf58c5f00bd3f5b462efc2',
    'tiktok/audio_feat.npy': 'd45a44a9d462f578802de914c2feea5cfd45742b2922775a085b9bdc1beba26f',
    'baby/trnMat.pkl': '4f89877511ce79f65e3e9376128f5c85fe4edf8d293706b94647f4b354a79d77',
    'baby/valMat.pkl': '71d426a111aec233f7442c478a8d21e182b87c9c2d5efe2ef1558fe0b1e929d2',
    'baby/tstMat.pkl': '98b2f7faf5c275e55ab63087cb52056f102d47b0a2db7b43a34836d737360b35',
}
#: Hashes of files without a published checksum, as they were at their first download.
RECORD = 'checksums.json'
#: Folder of verified files until all that are wanted are there, so that an interruption never
#: passes for a smaller dataset.
STAGING = '.download'


class DiffMMDataset(LayoutDataset):
    r"""Dataset in the layout of DiffMM (Jiang et al., ACM MM 2024) and GenRec-V1: ``tiktok``,
    ``baby``, ``sports`` or any folder of the same kind.

    Files: ``trnMat.pkl``, ``valMat.pkl``, ``tstMat.pkl`` (pickled SciPy matrices ``U x I``, read
    without executing anything) and per modality ``NAME_feat.npy`` or ``NAME_feat.npy.zip`` (row =
    item; an unpacked file goes before its archive). Missing files of ``tiktok`` and ``baby`` are
    downloaded; files put there by hand are used as they are. The sizes are those of the training
    matrix. Any stored entry other than zero is one interaction, whatever its value; a pair in
    several matrices belongs to the earliest split. Matrices have no order of interactions:
    ``LeaveOneOut`` asks for a seed.

    Args:
        root: Folder of the datasets.
        name: Name of the folder under it.
        modalities: Modalities to read, or a mapping from modality to the name of a file (any
            ``.npy`` or ``.npy.zip``); :obj:`None` reads every ``NAME_feat`` file that is there (all
            of the public set where nothing is there yet).
        mirror: Base address in place of the public one, also from the environment variable
            ``GENREC_MIRROR``; files are asked for at ``MIRROR/NAME/FILE``.
        **kwargs: Arguments of :class:`~genrec_pyg.datasets.base.LayoutDataset`.

    Raises:
        DataError: If files are missing, damaged, or do not fit together.
        ConfigError: If a modality is not there.
    """

    pattern = '*Mat.pkl'

    def __init__(
        self,
        root: str,
        name: str,
        modalities: Modalities = None,
        mirror: str | None = None,
        **kwargs: Any,
    ):
        self.mirror = (mirror or os.environ.get('GENREC_MIRROR') or BASE_URL).rstrip('/')
        super().__init__(root, name, modalities, **kwargs)

    @property
    def raw_file_names(self) -> list[str]:
        return [*MATRICES, *self._missing_features()]

    def _missing_features(self) -> list[str]:
        r"""Public feature files that the choice needs and the folder lacks."""
        public, present = list(DOWNLOADABLE.get(self.name, {})), self.feature_names()
        if self.choice is None:
            present = self.default_features(present)
            keys = {feature_key(file) for file in present}
            staging = Path(self.raw_dir) / STAGING
            return [
                file
                for file in public
                if feature_key(file) not in keys and (not present or os.path.exists(staging / file))
            ]
        asked = [str(file or name) for name, file in self.choice.items()]
        wanted = {
            file
            for name in asked
            if not matching_files(name, present)
            for file in matching_files(name, public)
        }
        return [file for file in public if file in wanted]

    def download(self) -> None:
        r"""Fetches what is missing.

        Raises:
            ConfigError: If a modality is neither there nor public.
            DataError: Naming the missing files and where to put them.
        """
        folder = Path(self.raw_dir)
        missing = [name for name in self.raw_file_names if not os.path.exists(folder / name)]
        where = f'dataset {self.name!r}: {", ".join(missing)} missing in {folder}'
        if self.name in BY_HAND:
            raise DataError(
                f'{where}; download {BY_HAND[self.name]} by hand and put its files there'
            )
        if self.name not in DOWNLOADABLE:
            raise DataError(f'{where}; put the files there')
        self.choose(self.feature_names(), list(DOWNLOADABLE[self.name]))
        try:
            for name in missing:
                if not (folder / STAGING / name).exists():
                    self._fetch(name, folder)
            for name in missing:
                os.replace(folder / STAGING / name, folder / name)
            if not any((folder / STAGING).iterdir()):
                (folder / STAGING).rmdir()
        except (DataError, OSError) as error:
            raise DataError(
                f'{where}. {error}. Put the files there by hand or name a mirror in GENREC_MIRROR'
            ) from error

    def _fetch(self, name: str, folder: Path) -> None:
        r"""Downloads one file into the staging folder; one without a published checksum must have
        the published shape.
        """
        record = _read_record(folder / RECORD)
        published = SHA256.get(f'{self.name}/{name}')
        shape = DOWNLOADABLE[self.name].get(name) if published is None else None
        found = download_file(
            f'{self.mirror}/{self.name}/{name}',
            folder / STAGING / name,
            published or record.get(name),
            None if shape is None else partial(_check_shape, shape=shape),
        )
        if published is None and name not in record:
            logger.info('%s: no published checksum, recorded %s', name, found)
            with replacing(folder / RECORD) as temporary:
                temporary.write_text(
                    json.dumps({**record, name: found}, indent=2) + '\n', encoding='utf-8'
                )

    def read(self) -> HeteroData:
        folder = Path(self.raw_dir)
        matrices = [load_scipy_pickle(folder / name) for name in MATRICES]
        num_users, num_items = shape = matrices[0].shape
        for name, matrix in zip(MATRICES, matrices):
            if matrix.shape != shape:
                raise DataError(
                    f'{folder / name}: shape {matrix.shape}, accepted is {shape}, that of '
                    f'{MATRICES[0]}'
                )
        user = np.concatenate([m.row for m in matrices]).astype(np.int64)
        item = np.concatenate([m.col for m in matrices]).astype(np.int64)
        split = np.repeat(np.arange(3), [m.nnz for m in matrices])
        files = self.feature_files()
        for path in [*(folder / name for name in MATRICES), *files.values()]:
            published = SHA256.get(f'{self.name}/{path.name}')
            if published is not None and file_sha256(path) != published:
                logger.warning(
                    '%s: is not the public file of that name (checksum %s)', path, published
                )
        features = {name: load_features(path) for name, path in files.items()}
        return build_graph(
            user, item, split, num_users, num_items, features, source=str(folder), ordered=False
        )


def _check_shape(path: Path, shape: tuple[int, int]) -> None:
    if (found := load_features(path).shape) != shape:
        raise DataError(f'features of shape {found}, expected {shape}')


def _read_record(path: Path) -> dict[str, str]:
    if not os.path.lexists(path):
        return {}
    try:
        with open_regular(path) as file:
            record = json.load(file)
        if not isinstance(record, dict):
            raise ValueError(f'holds {type(record).__name__}, accepted is a mapping')
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f'{path}: not readable ({error}); delete it to record the checksums again'
        ) from error
    return record
