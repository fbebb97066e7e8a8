r"""Downloads that are whole and verified or leave nothing behind."""
from __future__ import annotations

import logging
import os
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Optional

from genrec_pyg.datasets.readers import file_sha256
from genrec_pyg.exceptions import DataError

logger = logging.getLogger(__name__)


def download_file(url: str, path: Path, sha256: Optional[str] = None, attempts: int = 3, timeout: float = 30.0,
                  pause: float = 1.0) -> None:
    r"""Downloads ``url`` to ``path``.

    The body goes to a temporary file in the same folder, is compared with the announced length and the checksum, and only
    then takes its name. Answers that say no (such as 404) are final; a broken or wrong transfer is tried again.

    Args:
        url: Address.
        path: Destination.
        sha256: Expected checksum, if known.
        attempts: Largest number of tries.
        timeout: Seconds without data before a try is given up.
        pause: Seconds before the second try, doubled for each further one.

    Raises:
        DataError: If it cannot be had; the message names address, file and reason.
    """
    reason = ''
    for attempt in range(attempts):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            _download_once(url, path, sha256, timeout)
            return
        except urllib.error.HTTPError as error:
            reason = f'the server answers {error.code} {error.reason}'
            if error.code < 500:
                break
        except (OSError, EOFError, ValueError) as error:  # URLError is an OSError
            reason = str(getattr(error, 'reason', error))
        logger.info('%s: try %d of %d failed (%s)', url, attempt + 1, attempts, reason)
    raise DataError(f'{path.name}: cannot be downloaded from {url} ({reason})')


def _download_once(url: str, path: Path, sha256: Optional[str], timeout: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, 'wb') as file, urllib.request.urlopen(url, timeout=timeout) as answer:
            announced = answer.headers.get('Content-Length')
            received = 0
            while block := answer.read(1 << 20):
                file.write(block)
                received += len(block)
            if announced is not None and received != int(announced):
                raise EOFError(f'truncated: {received} of {announced} bytes')
            file.flush()
            os.fsync(file.fileno())
        if sha256 is not None and (found := file_sha256(temporary)) != sha256:
            raise ValueError(f'checksum {found}, expected {sha256}')
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
