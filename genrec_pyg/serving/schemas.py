r"""Requests and answers of the service, from which its OpenAPI description is made."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictInt, StrictStr, create_model

from genrec_pyg.serving.limits import Limits

#: Ids as the dataset has them; a number and its digits are one id.
RawId = StrictInt | Annotated[StrictStr, Field(max_length=1000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra='forbid')


class Requests(NamedTuple):
    r"""Classes of the bodies that are accepted."""

    recommend: type[BaseModel]
    fold_in: type[BaseModel]
    similar: type[BaseModel]
    rank: type[BaseModel]


class Entry(BaseModel):
    r"""An item of a list."""

    item: int | str
    score: float
    title: str | None = None


class List(BaseModel):
    r"""A list, the best item first."""

    user: int | str | None = Field(None, description='the user it is for')
    item: int | str | None = Field(None, description='the item it is similar to')
    unknown: list[int | str] | None = Field(
        None, description='items of the history that the model does not know'
    )
    items: list[Entry]


class Lists(BaseModel):
    r"""Lists in the order of the request."""

    bundle: str = Field(description='the bundle that they are from')
    lists: list[List]


class Error(BaseModel):
    r"""Why there is no answer."""

    code: str
    message: str


class Errors(BaseModel):
    r"""An error."""

    error: Error


class Health(BaseModel):
    r"""State of the service."""

    status: Literal['ok']
    bundle: str
    model: str
    dataset: str
    users: int
    items: int
    unable: dict[str, str] = Field(description='what the model cannot do, and why')
    features: dict[str, int] = Field(description='widths of the features of new items by modality')
    reload_error: str | None = Field(description='why the newest bundle was refused')


def make_requests(limits: Limits) -> Requests:
    r"""Bodies of requests within ``limits``."""
    k = (Annotated[int, Field(strict=True, ge=1, le=limits.k, description='items per list')], 20)
    some = Annotated[list[RawId], Field(min_length=1, max_length=limits.lists)]
    items = Annotated[list[RawId], Field(max_length=limits.history)]
    restricted = {
        'candidates': (
            Annotated[items | None, Field(description='only these items are offered')],
            None,
        ),
        'block': (Annotated[items, Field(description='these items are not offered')], []),
    }
    exclude = (
        Annotated[
            Literal['known', 'none'], Field(description='interactions that are not offered again')
        ],
        'known',
    )
    recommend = create_model(
        'RecommendRequest',
        __base__=_Strict,
        __doc__='Lists for users of the training.',
        users=(some, ...),
        k=k,
        exclude=exclude,
        **restricted,
    )
    histories = Annotated[
        list[Annotated[list[RawId], Field(min_length=1, max_length=limits.history)]],
        Field(min_length=1, max_length=limits.lists),
    ]
    fold_in = create_model(
        'FoldInRequest',
        __base__=_Strict,
        histories=(histories, ...),
        k=k,
        **restricted,
        __doc__='Lists for anybody, from what they had; that is left out.',
    )
    similar = create_model(
        'SimilarRequest', __base__=_Strict, __doc__='Items like these.', items=(some, ...), k=k
    )
    features = Annotated[
        dict[str, list[FiniteFloat]], Field(min_length=1, description='features by modality')
    ]
    new_item = create_model(
        'NewItem',
        __base__=_Strict,
        __doc__='An item that came after the training.',
        item=(RawId, ...),
        features=(features, ...),
    )
    new_items = Annotated[list[new_item], Field(min_length=1, max_length=limits.new_items)]
    rank = create_model(
        'RankRequest',
        __base__=_Strict,
        __doc__='New items in order, for users of the training.',
        users=(some, ...),
        items=(new_items, ...),
    )
    return Requests(recommend, fold_in, similar, rank)
