r"""The file layout of DiffMM and GenRec-V1."""
from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any, Optional

import numpy as np
from torch_geometric.data import HeteroData

from genrec_pyg.datasets.build import build_graph
from genrec_pyg.datasets.download import download_file
from genrec_pyg.datasets.layout import LayoutDataset, Modalities
from genrec_pyg.datasets.readers import file_sha256, load_features, load_scipy_pickle
from genrec_pyg.exceptions import DataError

logger = logging.getLogger(__name__)

#: Public location of the files (repository HKUDS/DiffMM, branch main).
BASE_URL = 'https://raw.githubusercontent.com/HKUDS/DiffMM/main/Datasets'
MATRICES = ('trnMat.pkl', 'valMat.pkl', 'tstMat.pkl')
FEATURE_SUFFIXES = ('_feat.npy', '_feat.npy.zip')
#: Feature files of the sets that can be downloaded.
DOWNLOADABLE = {
    'tiktok': ('image_feat.npy', 'text_feat.npy', 'audio_feat.npy'),
    'baby': ('image_feat.npy.zip', 'text_feat.npy'),
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


class DiffMMDataset(LayoutDataset):
    r"""Data set in the layout of DiffMM (Jiang et al., ACM MM 2024) and GenRec-V1: ``tiktok``, ``baby``, ``sports`` or any
    folder of the same kind.

    Files: ``trnMat.pkl``, ``valMat.pkl``, ``tstMat.pkl`` (pickled SciPy matrices ``U x I``, read without executing anything)
    and per modality ``NAME_feat.npy`` or ``NAME_feat.npy.zip`` (row = item). Missing files of ``tiktok`` and ``baby`` are
    downloaded; files put there by hand are used as they are. The sizes are those of the training matrix.

    Args:
        root: Folder of the data sets.
        name: Name of the folder under it.
        modalities: Modalities to read; :obj:`None` reads every feature file that is there (all of the public set where
            nothing is there yet).
        mirror: Base address in place of the public one, also from the environment variable ``GENREC_MIRROR``; files are
            asked for at ``MIRROR/NAME/FILE``.
        **kwargs: Arguments of :class:`~genrec_pyg.datasets.layout.LayoutDataset`.

    Raises:
        DataError: If files are missing, damaged, or do not fit together.
        ConfigError: If a modality is not there.
    """

    def __init__(self, root: str, name: str, modalities: Modalities = None, mirror: Optional[str] = None, **kwargs: Any):
        self.mirror = (mirror or os.environ.get('GENREC_MIRROR') or BASE_URL).rstrip('/')
        super().__init__(root, name, modalities, **kwargs)

    @property
    def raw_file_names(self) -> list[str]:
        return [*MATRICES, *self._missing_features()]

    def feature_files(self) -> dict[str, Path]:
        available = {}
        for suffix in reversed(FEATURE_SUFFIXES):  # an unpacked file goes before its archive
            for path in sorted(Path(self.raw_dir).glob(f'*{suffix}')):
                available[path.name.removesuffix(suffix)] = path
        return self.choose(dict(sorted(available.items())))

    def _missing_features(self) -> list[str]:
        r"""Public feature files that the choice needs and the folder lacks."""
        folder = Path(self.raw_dir)
        present = {p.name for suffix in FEATURE_SUFFIXES for p in folder.glob(f'*{suffix}')}
        wanted = self.choice if self.choice is not None else ({} if present else None)
        missing = []
        for file in DOWNLOADABLE.get(self.name, ()):
            modality = file.partition('_feat')[0]
            here = any(f'{modality}{suffix}' in present for suffix in FEATURE_SUFFIXES)
            if not here and (wanted is None or modality in wanted):
                missing.append(file)
        return missing

    def download(self) -> None:
        r"""Fetches what is missing.

        Raises:
            DataError: Naming the missing files and where to put them.
        """
        folder = Path(self.raw_dir)
        missing = [name for name in self.raw_file_names if not (folder / name).exists()]
        where = f'data set {self.name!r}: {", ".join(missing)} missing in {folder}'
        if self.name in BY_HAND:
            raise DataError(f'{where}; download {BY_HAND[self.name]} by hand and put its files there')
        if self.name not in DOWNLOADABLE:
            raise DataError(f'{where}; put the files there')
        record_path = folder / RECORD
        record = json.loads(record_path.read_text()) if record_path.exists() else {}
        for name in missing:
            expected = SHA256.get(f'{self.name}/{name}') or record.get(name)
            try:
                download_file(f'{self.mirror}/{self.name}/{name}', folder / name, expected)
            except DataError as error:
                raise DataError(f'{where}. {error}. Put the files there by hand or name a mirror in GENREC_MIRROR') from error
            if expected is None:
                record[name] = file_sha256(folder / name)
                logger.info('%s: no published checksum, recorded %s', name, record[name])
                record_path.write_text(json.dumps(record, indent=2) + '\n')

    def read(self) -> HeteroData:
        folder = Path(self.raw_dir)
        matrices = [load_scipy_pickle(folder / name) for name in MATRICES]
        num_users, num_items = matrices[0].shape
        for name, matrix in zip(MATRICES, matrices):
            if matrix.shape != matrices[0].shape:
                raise DataError(f'{folder / name}: shape {matrix.shape}, accepted is {matrices[0].shape}, that of {MATRICES[0]}')
        user = np.concatenate([m.row for m in matrices]).astype(np.int64)
        item = np.concatenate([m.col for m in matrices]).astype(np.int64)
        split = np.repeat(np.arange(3), [m.nnz for m in matrices])
        features = {name: load_features(path) for name, path in self.feature_files().items()}
        return build_graph(user, item, split, num_users, num_items, features, source=str(folder))
