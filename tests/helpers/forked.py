"""Processes forked from one that has the library loaded.

Importing torch and PyG takes seconds, more than most of what tests do in processes of their own.
The server of :mod:`multiprocessing` imports them once for all tests of a session; a process that
it forks starts in a hundredth of a second, and has working folder, environment and streams of its
own. Tests of how the interpreter itself is started (closed streams, ``torchrun``, programs given
as text) start one with :mod:`subprocess`.
"""

import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: What the server imports: all that a command imports, and the models and stores they meet.
LOADED = [
    'genrec_pyg.train',
    'genrec_pyg.evaluate',
    'genrec_pyg.recommend',
    'genrec_pyg.nn.models.multimodal.genrec',
    'torch.distributed.tensor',
]
CONTEXT = multiprocessing.get_context('forkserver')


def _serve():
    """Starts the server, once, where the path and the threads of its processes are settled."""
    before = dict(os.environ)
    paths = [str(ROOT), str(ROOT / 'tests'), *filter(None, sys.path)]
    os.environ.update(PYTHONPATH=os.pathsep.join(paths), OMP_NUM_THREADS='1')
    try:
        CONTEXT.set_forkserver_preload(LOADED)
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


class Forked:
    """A process that calls ``function(*arguments)`` and leaves with what it returns.

    Args:
        function: Function of a module.
        arguments: Its arguments.
        folder: Working folder.
        variables: Variables of its environment, beside those of this process.
    """

    def __init__(self, function, *arguments, folder='.', variables=None):
        _serve()
        self._streams = tempfile.TemporaryDirectory()
        self._files = [Path(self._streams.name, name) for name in ('stdout', 'stderr')]
        environment = {**os.environ, 'OMP_NUM_THREADS': '1', **(variables or {})}
        self._process = CONTEXT.Process(
            target=_call, args=(function, arguments, str(folder), environment, self._files)
        )
        self._process.start()
        self.pid = self._process.pid

    def wait(self, timeout=300):
        """Exit status, stdout and stderr as :func:`subprocess.run` has them."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            raise subprocess.TimeoutExpired(f'process {self.pid}', timeout, *self._read())
        return subprocess.CompletedProcess(self.pid, self._process.exitcode, *self._read())

    def poll(self):
        """Exit status; :obj:`None` while the process runs."""
        return self._process.exitcode

    def _read(self):
        return [file.read_text('utf-8') if file.exists() else '' for file in self._files]


def run_command(name, *arguments, folder='.', path=()):
    """Runs the command ``genrec_pyg.NAME`` as ``python -m`` does.

    Args:
        name: Its module.
        arguments: Flags and values.
        folder: Working folder.
        path: Folders in which it finds further packages.
    """
    flags = list(map(str, arguments))
    return Forked(_command, name, flags, list(map(str, path)), folder=folder).wait()


def _command(name, arguments, path):
    sys.path[:0] = path
    return importlib.import_module(f'genrec_pyg.{name}').main(arguments)


def _call(function, arguments, folder, environment, files):
    for number, file in enumerate(files, 1):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.exit(function(*arguments))
