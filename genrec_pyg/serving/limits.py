r"""What a service accepts at most."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    r"""Sizes beyond which a request is refused.

    Args:
        lists: Lists of one request.
        k: Items of one list.
        history: Items of one history, and of ``candidates`` and ``block``.
        new_items: New items of one request.
        body: Bytes of the body of a request.
        waiting: Lists that wait at a time; beyond, requests get 503 and may come back.
        batch: Lists that are made together.
    """

    lists: int = 100
    k: int = 1000
    history: int = 1000
    new_items: int = 100
    body: int = 4 << 20
    waiting: int = 5000
    batch: int = 32
