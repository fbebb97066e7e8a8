r"""Verified downloads that leave nothing behind when they fail."""

from __future__ import annotations

import hashlib
import http.client
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from genrec_pyg.exceptions import DataError
from genrec_pyg.utils.files import replacing

logger = logging.getLogger(__name__)

#: Answers below 500 that are worth another try.
_TEMPORARY = (408, 425, 429)


def download_file(
    url: str,
    path: Path,
    sha256: str | None = None,
    check: Callable[[Path], None] | None = None,
    attempts: int = 3,
    timeout: float = 30.0,
    pause: float = 1.0,
) -> str:
    r"""Downloads ``url`` to ``path``.

    The body goes to a temporary file in the same folder, is compared with the announced length and
    the checksum, and only then takes its name. Answers that say no (such as 404) are final; a
    broken or wrong transfer is tried again.

    Args:
        url: Address.
        path: Destination.
        sha256: Expected checksum, if known.
        check: Called with the path of the temporary file; raises :class:`DataError` where the
            content is wrong.
        attempts: Largest number of tries.
        timeout: Seconds without data before a try is given up.
        pause: Seconds before the second try, doubled for each further one.

    Returns:
        The SHA-256 checksum of the file.

    Raises:
        DataError: If it cannot be had; the message names address, file and reason.
    """
    reason = ''
    for attempt in range(attempts):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            return _download_once(url, path, sha256, check, timeout)
        except urllib.error.HTTPError as error:
            reason = f'the server answers {error.code} {error.reason}'
            if error.code < 500 and error.code not in _TEMPORARY:
                break
        except (OSError, EOFError, ValueError, http.client.HTTPException) as error:
            # URLError is an OSError
            reason = str(getattr(error, 'reason', '') or error or type(error).__name__)
        logger.info('%s: try %d of %d failed (%s)', url, attempt + 1, attempts, reason)
    raise DataError(f'{path.name}: cannot be downloaded from {url} ({reason})')


def _download_once(
    url: str, path: Path, sha256: str | None, check: Callable[[Path], None] | None, timeout: float
) -> str:
    digest, received = hashlib.sha256(), 0
    with replacing(path) as temporary:
        with temporary.open('wb') as file, urllib.request.urlopen(url, timeout=timeout) as answer:
            announced = answer.headers.get('Content-Length')
            while block := answer.read(1 << 20):
                file.write(block)
                digest.update(block)
                received += len(block)
        if announced is not None and received != int(announced):
            raise EOFError(f'truncated: {received} of {announced} bytes')
        if sha256 is not None and digest.hexdigest() != sha256:
            raise ValueError(f'checksum {digest.hexdigest()}, expected {sha256}')
        if check is not None:
            check(temporary)
    return digest.hexdigest()
