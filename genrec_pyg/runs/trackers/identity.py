r"""Names that trackers gave a run, so that a resumed training goes on in it."""

from __future__ import annotations

import json
from pathlib import Path

from genrec_pyg.utils.files import write_json

#: File of the names in the folder of a run.
FILE = 'trackers.json'


def read_identity(folder: Path, tracker: str) -> str | None:
    r"""The name that ``tracker`` gave the run in ``folder``, if it is known."""
    try:
        found = json.loads((folder / FILE).read_text('utf-8')).get(tracker)
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def write_identity(folder: Path, tracker: str, name: str) -> None:
    r"""Keeps the name that ``tracker`` gave the run in ``folder``."""
    try:
        known = json.loads((folder / FILE).read_text('utf-8'))
    except (OSError, ValueError):
        known = {}
    write_json(folder / FILE, {**(known if isinstance(known, dict) else {}), tracker: name})
