r"""What the columns of a log are: roles, and the names by which they are usually known."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from genrec_pyg.exceptions import ConfigError

#: What a column of a log can be.
ROLES = ('user', 'item', 'rating', 'time', 'split')
#: Usual names of each, compared without case, underscores, hyphens and blanks.
_NAMES = {
    'user': ('user', 'userid', 'uid', 'reviewerid', 'customerid', 'visitorid'),
    'item': ('item', 'itemid', 'iid', 'movieid', 'productid', 'articleid', 'asin', 'parentasin'),
    'rating': ('rating', 'overall', 'stars'),
    'time': ('time', 'timestamp', 'ts', 'unixreviewtime', 'datetime', 'date'),
    'split': ('split', 'xlabel'),
    'title': ('title', 'movietitle', 'name', 'itemname', 'productname', 'booktitle'),
}
#: Usual names that give way where another one is there too: products are listed by ``parent_asin``
#: in Amazon reviews 2023 (https://amazon-reviews-2023.github.io).
_GIVES_WAY = {'asin': 'parentasin'}
#: Types that RecBole's atomic files write behind a name (https://recbole.io/atomic_files.html).
TYPED = re.compile(r'(.*):(token|float|token_seq|float_seq)')


def find_columns(
    names: Sequence[str],
    columns: Mapping[str, str] | None,
    source: str,
    required: Sequence[str] = ('user', 'item'),
    roles: Sequence[str] = ROLES,
) -> dict[str, str]:
    r"""Role to the name of its column: those of ``columns``, the others by usual names, which
    decide alone where ``columns`` is :obj:`None`.

    Raises:
        ConfigError: If a column is missing, or more than one could be meant.
    """
    chosen = dict(columns or {})
    plain = {name: _plain(name) for name in names}
    for role in roles:
        if role in chosen:
            continue
        usual = [
            name for name in names if plain[name] in _NAMES[role] and name not in chosen.values()
        ]
        known = {plain[name] for name in usual}
        usual = [name for name in usual if _GIVES_WAY.get(plain[name]) not in known]
        if len(usual) > 1:
            raise ConfigError(
                f'{source}: its columns {", ".join(map(repr, usual))} may all be the {role}; '
                f'{_advice(columns, role)}'
            )
        if usual:
            chosen[role] = usual[0]
    missing = next((role for role in required if role not in chosen), None)
    if columns is None and missing is not None:
        raise ConfigError(
            f'{source}: none of its columns ({_shown(names)}) is known as {missing}; '
            f'{_advice(columns, missing)}'
        )
    check_columns(names, chosen, source, required)
    return chosen


def check_columns(
    names: Sequence[str], chosen: Mapping[str, str], source: str, required: Sequence[str]
) -> None:
    r"""Refuses roles without a column, and columns that are not there.

    Raises:
        ConfigError: Naming the role or the column, and those that are there.
    """
    for role in required:
        if role not in chosen:
            raise ConfigError(
                f'{source}: none of its columns ({_shown(names)}) is known as {role}; say which '
                f'with --columns {" ".join(f"{name}=NAME" for name in required)} (prepare: '
                f'--{role} NAME; numbers from 1 where there is no header)'
            )
    for role, name in chosen.items():
        if list(names).count(name) != 1:
            raise ConfigError(
                f'{source}: --columns {role}={name}: there '
                f'{"is no" if name not in names else "are several"} such column, accepted are '
                f'{_shown(names)}'
            )


def check_roles(columns: Mapping[str, str] | None) -> dict[str, str]:
    r"""A copy of ``columns`` whose keys are roles.

    Raises:
        ConfigError: On another key.
    """
    for role in columns or {}:
        if role not in ROLES:
            raise ConfigError(f'columns: got {role!r}, accepted are {", ".join(ROLES)}')
    return dict(columns or {})


def _shown(names: Sequence[str]) -> str:
    return ', '.join(map(repr, names[:20]))


def _advice(columns: Mapping[str, str] | None, role: str) -> str:
    if columns is None:
        return f'accepted is one column called {", ".join(_NAMES[role])}'
    return f'say which with --columns {role}=NAME (prepare: --{role} NAME)'


def _plain(name: str) -> str:
    found = TYPED.fullmatch(name)
    return re.sub(r'[ _-]', '', (name if found is None else found[1]).lower())
