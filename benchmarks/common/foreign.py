r"""Runs the code of other projects beside this package's, changed only from outside and at run
time.

Nothing of such a project is part of this package: its modules are imported from a checkout, by
their names.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch


@contextlib.contextmanager
def foreign_code(*folders: Path) -> Iterator[None]:
    r"""Within this context modules lying in ``folders`` are found first, and old programs for GPUs
    run on a processor with today's libraries:

    * ``Tensor.cuda`` and ``Module.cuda`` return the object itself;
    * scipy's sparse matrices get back the attribute ``A`` (dense array), and those by dictionary of
      keys ``_update``, both of which scipy removed;
    * ``setproctitle``, where it is not installed, becomes a stand-in that does nothing.

    Imported modules stay imported, so that of two projects with modules of equal names each needs a
    process of its own.
    """
    import scipy.sparse  # here: a process under measurement imports them in its own time
    import torch

    with contextlib.ExitStack() as stack:
        for owner in (torch.Tensor, torch.nn.Module):
            stack.enter_context(patch.object(owner, 'cuda', _itself))
        for owner, name, value in (
            (scipy.sparse.spmatrix, 'A', property(lambda self: self.toarray())),
            (scipy.sparse.dok_matrix, '_update', lambda self, entries: self._dict.update(entries)),
        ):
            if not hasattr(owner, name):
                stack.enter_context(patch.object(owner, name, value, create=True))
        if importlib.util.find_spec('setproctitle') is None:
            sys.modules['setproctitle'] = types.ModuleType('setproctitle')
            sys.modules['setproctitle'].setproctitle = lambda title: None
            stack.callback(sys.modules.pop, 'setproctitle')
        before = list(sys.path)
        stack.callback(lambda: sys.path.__setitem__(slice(None), before))
        sys.path[:0] = map(str, folders)
        yield


def _itself(self: Any, *args: Any, **kwargs: Any) -> Any:
    return self


def stand_in(name: str, **attributes: Any) -> None:
    r"""Puts a module with ``attributes`` in the place of the module ``name`` where that is not
    installed, for code that imports it and does without it here.
    """
    if name not in sys.modules and importlib.util.find_spec(name) is None:
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(attributes)


def require_files(checkout: Path, *names: str) -> None:
    r"""Checks that a folder is the checkout that it is taken for.

    Args:
        checkout: The folder.
        names: Files that are read, relative to it.

    Raises:
        FileNotFoundError: If one is missing; the message names all that are.
    """
    absent = [name for name in names if not (checkout / name).is_file()]
    if absent:
        raise FileNotFoundError(f'--checkout: the folder lacks {", ".join(absent)}')
