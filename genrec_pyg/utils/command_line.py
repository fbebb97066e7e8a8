r"""Flags and errors of the command lines; without torch, so that a command may start fast."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from genrec_pyg.exceptions import ConfigError, GenRecError
from genrec_pyg.utils.interruption import INTERRUPTED, interruptible
from genrec_pyg.utils.memory import keep_freed_memory


def path_argument(value: str) -> str:
    r"""Type of the flags that take a file or folder: an empty one would name the current folder."""
    if not value:
        raise argparse.ArgumentTypeError('got an empty name, accepted is that of a file or folder')
    return value


def underscored(argv: Sequence[str]) -> list[str]:
    r"""Spells flags as the commands do, ``--min_rating`` for ``--min-rating``; the other spelling
    is accepted everywhere.

    Dotted flags are keys of a configuration and stay as they are, as does everything after ``--``.
    """
    end = argv.index('--') if '--' in argv else len(argv)
    return [_underscored(argument) for argument in argv[:end]] + list(argv[end:])


def _underscored(argument: str) -> str:
    flag, equals, value = argument.partition('=')
    if not flag.startswith('--') or '.' in flag:
        return argument
    return f'--{flag[2:].replace("-", "_")}{equals}{value}'


def require(packages: Sequence[str], extra: str) -> None:
    r"""Says how to install what an optional part needs.

    Args:
        packages: Names under which they are imported.
        extra: Extra of this package that installs them.

    Raises:
        ConfigError: If one of ``packages`` is not there.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f'{", ".join(missing)}: not installed; pip install "genrec_pyg[{extra}]" (in a '
            f'checkout: pip install ".[{extra}]")'
        )


def parse_named_files(flag: str, entries: Sequence[str]) -> dict[str, str]:
    r"""Name to file from ``NAME=FILE`` entries of a flag.

    Raises:
        ConfigError: On an entry of another form, or a name that is given twice.
    """
    found: dict[str, str] = {}
    for entry in entries:
        name, equals, file = entry.partition('=')
        if not (name and equals and file) or name in found or '/' in name:
            raise ConfigError(f'{flag}: got {entry!r}, accepted are NAME=FILE, each name once')
        found[name] = file
    return found


def run_command(command: Callable[[Sequence[str]], Any], argv: Sequence[str] | None = None) -> int:
    r"""Runs a command line and maps its outcome to an exit code.

    Returns:
        0 on success, 2 on bad usage, 1 on failure, 130 on interruption. Errors are one line on
        standard error, with a traceback only under ``--debug``.
    """
    argv = underscored(sys.argv[1:] if argv is None else list(argv))
    _open_standard_streams()
    keep_freed_memory()
    logging.basicConfig(
        level=logging.INFO, format='%(asctime)s %(levelname)s %(message)s', datefmt='%H:%M:%S'
    )
    logging.getLogger('genrec_pyg').setLevel(logging.INFO)
    logging.getLogger('faiss').setLevel(logging.WARNING)  # it tells which of its builds it tries
    try:
        with interruptible():
            command(argv)
        return 0
    except SystemExit as error:  # --help and usage errors of argparse
        return error.code if isinstance(error.code, int) else 2
    except KeyboardInterrupt:
        _say('interrupted')
        return INTERRUPTED
    except Exception as error:
        if '--debug' in argv:
            _say(traceback.format_exc().rstrip('\n'))
        else:
            expected = isinstance(error, GenRecError)
            message = (
                str(error)
                if expected
                else f'{type(error).__name__}: {error} (unexpected; --debug shows where)'
            )
            _say('error: ' + message.replace('\n', '\\n'))  # one line, whatever names it quotes
        return 2 if isinstance(error, ConfigError) else 1


def _open_standard_streams() -> None:
    r"""Gives a process that was started with closed streams something in their place, so that no
    file gets their numbers and what libraries print into it. A closed standard output is still seen
    as one.
    """
    for number in range(3):
        with suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if sys.stderr is None:
        sys.stderr = open(os.devnull, 'w')


def _say(message: str) -> None:
    with suppress(OSError):  # the exit code tells as much
        print(message, file=sys.stderr, flush=True)
