r"""The interface that every model of this package implements."""

from __future__ import annotations

import functools
import inspect
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph, training_graph
from genrec_pyg.loader import InteractionLoader
from genrec_pyg.nn.graph_module import GraphModule
from genrec_pyg.nn.models.settings import dotted, nested, with_groups
from genrec_pyg.ops import Adjacency, masked_topk, topk_excluding
from genrec_pyg.optim import MirrorGradient

if TYPE_CHECKING:
    from genrec_pyg.nn.interest import GeneratedInterest


class Replaced(NamedTuple):
    r"""Value that replaces an option.

    Args:
        value: Value that counts.
        by: Option that takes its place, for messages, such as ``"variant='released'"``.
    """

    value: Any
    by: str


class GridSupport(NamedTuple):
    r"""How the work of a step is divided on a grid of processes (:mod:`genrec_pyg.distributed`).

    Args:
        tables: ``'user'`` or ``'item'`` by the name of each parameter that has one row for each of
            them; these are divided. With options that leave one of them out the model cannot be
            divided.
        optional: Those among them that options may leave out.
        rows: Whether encoders and losses are made on rows that the layout moves there, or
            everything but scores per column.
    """

    tables: dict[str, str]
    optional: frozenset[str] = frozenset()
    rows: bool = False


#: Models whose parameters of one row per node are those of a multimodal graph encoder.
ENCODER_GRID = GridSupport(
    {'encoder.user_embedding': 'user', 'encoder.item_embedding': 'item'}, rows=True
)


class _DrawnParameters(type):
    r"""Makes groups of settings from mappings that a model is given, and every model remember what
    its constructor, and later its ``reset_parameters``, drew.
    """

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
        if 'reset_parameters' in namespace:
            namespace = {
                **namespace,
                'reset_parameters': _remembering(namespace['reset_parameters']),
            }
        return super().__new__(mcs, name, bases, namespace)

    @property
    def __signature__(cls) -> inspect.Signature:
        r"""The arguments of the constructor, which ``__call__`` would hide."""
        signature = inspect.signature(cls.__init__)
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        kwargs = with_groups(cls, kwargs)
        model = super().__call__(*args, **kwargs)
        model._drawn = parameter_digests(model)
        bound = cls.__signature__.bind(*args, **kwargs)
        bound.apply_defaults()
        model._arguments = {
            name: value
            for name, value in bound.arguments.items()
            if name not in ('data', 'modalities')
        }
        return model


def _remembering(reset_parameters: Callable[[Recommender], None]) -> Callable[[Recommender], None]:
    @functools.wraps(reset_parameters)
    def wrapped(self: Recommender) -> None:
        reset_parameters(self)
        # once, whatever calls super()
        if self._drawn is not None and type(self).reset_parameters is wrapped:
            self._drawn = parameter_digests(self)

    return wrapped


class Recommender(GraphModule, metaclass=_DrawnParameters):
    r"""Base class of the models: learns from a training graph, scores every item for a user.

    A subclass implements :meth:`embed` and :meth:`loss`; models that do more than gradient steps on
    batches also implement :meth:`start_epoch`. Randomness comes from torch's global generator
    alone, whose state the trainer saves.

    Args:
        data: Canonical graph (:mod:`genrec_pyg.graph`) or a training graph made from one. Only its
            training edges are kept.
        modalities: Modalities to use, in this order; :obj:`None` uses all of the graph.
        contents: Attributes of ``data['item']`` with raw content that the model reads.

    Shapes:
        ``U`` users, ``I`` items, ``d`` hidden channels, ``B`` users or triples of a batch.
    """

    #: Whether gradient training applies; models fitted in the constructor set it to :obj:`False`.
    trainable: bool = True
    #: Whether processes may share a batch: the loss of a slice, weighted by its share of the rows,
    #: adds up to the loss of the batch, no random number is drawn per row, and every field of a
    #: batch has one entry per row. Means over rows do so, and losses among rows that take the
    #: others from :func:`genrec_pyg.utils.collectives.batch_rows`. Otherwise every process computes
    #: the loss of the whole batch.
    splits_batch: bool = False
    #: Whether, and how, the work of a step can be divided among processes. A class says so for
    #: itself: its subclasses may do what cannot be divided. On a grid :meth:`loss` returns shares,
    #: whose sum over the processes is the term.
    grid: GridSupport | None = None
    #: Neighbors of a node and layer that training steps sample in expectation, :obj:`None` for all.
    fan: int | None = None
    #: Whether users are their histories, so that interactions after the training change embeddings.
    reads_history: bool = False
    #: Digests of the parameters as they were drawn; :obj:`None` until the constructor has ended.
    _drawn: dict[str, tuple[torch.dtype, int]] | None = None
    _arguments: dict[str, Any] = {}

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        contents: Iterable[str] = (),
    ):
        super().__init__()
        self.graph = (
            data
            if isinstance(data, TrainingGraph)
            else training_graph(data, modalities, contents=contents)
        )
        self._cached: tuple[Tensor, Tensor] | None = None

    @property
    def num_users(self) -> int:
        r"""Number of users ``U``."""
        return self.graph.num_users

    @property
    def num_items(self) -> int:
        r"""Number of items ``I``."""
        return self.graph.num_items

    @property
    def arguments(self) -> dict[str, Any]:
        r"""What the constructor was called with besides data and modalities, defaults included;
        groups of settings as mappings.
        """
        return nested(dotted(type(self), self._arguments))

    @property
    def has_embeddings(self) -> bool:
        r"""Whether scores are inner products of embeddings."""
        return type(self).embed is not Recommender.embed and type(self).score is Recommender.score

    @classmethod
    def replaced_options(cls, options: Mapping[str, Any]) -> dict[str, Replaced]:
        r"""The options of the constructor that others of ``options`` take the place of, for
        :meth:`ineffective_options`; settings of groups by dotted name.
        """
        return {}

    @classmethod
    def ineffective_options(cls, options: Mapping[str, Any]) -> dict[str, Replaced]:
        r"""Those of ``options`` that are set, that is neither left at their defaults nor set to
        what counts anyway, and that others take the place of; settings of groups by dotted name.
        """
        parameters = inspect.signature(cls.__init__).parameters
        defaults = dotted(cls, {name: parameter.default for name, parameter in parameters.items()})
        options = dotted(cls, options)
        return {
            name: replaced
            for name, replaced in cls.replaced_options({**defaults, **options}).items()
            if name in options and options[name] not in (defaults[name], replaced.value)
        }

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        r"""Refuses an option that would have no effect; the constructor calls it with its
        arguments.

        Raises:
            ConfigError: Naming the option, its value, and the option that takes its place.
        """
        for name, (value, by) in cls.ineffective_options(options).items():
            raise ConfigError(
                f'{name}: got {dotted(cls, options)[name]!r} with {by}, accepted is {value!r}'
            )

    def sample_neighbors(self, fan: int | None) -> None:
        r"""Lets training steps propagate over sampled neighborhoods, ``fan`` neighbors of a node
        and layer in expectation; :obj:`None` over the whole graph. Here nothing is sampled.

        Raises:
            ConfigError: If the model cannot.
        """
        if fan is not None:
            raise ConfigError(
                f"neighborhood: got 'sampled' for {type(self).__name__}, accepted is 'full'; "
                f'LightGCN samples'
            )
        self.fan = None

    def reset_parameters(self) -> None:
        r"""Redraws all learnable parameters."""

    def is_untrained(self) -> bool:
        r"""Whether the parameters are those that the constructor or :meth:`reset_parameters` drew,
        so that nothing is lost where they are redrawn: no step, no loaded state and no assignment
        has changed one since.
        """
        return self._drawn == parameter_digests(self, self._drawn)

    def embed(self) -> tuple[Tensor, Tensor]:
        r"""User embeddings ``[U, d]`` (or ``[U, K, d]`` for ``K`` interests) and item embeddings
        ``[I, d]``.
        """
        raise TypeError(f'{type(self).__name__} has no embeddings; use score()')

    def loss(self, batch) -> dict[str, Tensor]:
        r"""Named scalar terms for a batch of :class:`~genrec_pyg.loader.Triples`; their sum is
        minimized.
        """
        raise TypeError(f'{type(self).__name__} is not trained by gradient')

    def start_epoch(self, epoch: int) -> dict[str, float]:
        r"""Work before the batches of epoch ``epoch`` (from 0), such as regenerating a graph;
        returns figures to log.
        """
        return {}

    def trained_parameters(self) -> Iterator[torch.nn.Parameter]:
        r"""Parameters that the trainer's optimizer owns; parts with their own optimizer are left
        out by the subclass.
        """
        return (parameter for parameter in self.parameters() if parameter.requires_grad)

    def encoder_parameters(self) -> Iterator[torch.nn.Parameter]:
        r"""Those of :meth:`trained_parameters` that belong to a pretrained encoder, which the
        trainer may give a learning rate of their own. Such a part has a method of this name.
        """
        found = {
            parameter
            for module in self.modules()
            if module is not self and hasattr(module, 'encoder_parameters')
            for parameter in module.encoder_parameters()
        }
        return (parameter for parameter in self.trained_parameters() if parameter in found)

    def wrap_optimizers(
        self, wrap: Callable[[torch.optim.Optimizer], MirrorGradient] | None
    ) -> None:
        r"""Recreates the optimizers owned by submodules, within ``wrap`` unless it is :obj:`None`;
        called before training, and before a checkpoint is loaded. Such a part has a method
        ``wrap_optimizer(wrap)``.
        """
        for module in self.modules():
            if hasattr(module, 'wrap_optimizer'):
                module.wrap_optimizer(wrap)

    def embeddings(self) -> tuple[Tensor, Tensor]:
        r"""As :meth:`embed`, computed once within :meth:`cached_embeddings`."""
        return self._cached if self._cached is not None else self.embed()

    def make_loader(self, batch_size: int, sampler: str, steps_per_epoch: int | None = None) -> Any:
        r"""Batches of an epoch, named tuples of tensors of which ``user`` counts the rows;
        ``num_edges`` says how many rows an epoch has.

        Args:
            batch_size: Rows per batch.
            sampler: ``'edge'`` or ``'user'``, see :class:`~genrec_pyg.loader.InteractionLoader`.
            steps_per_epoch: Most batches per epoch: here those that ``batch_size`` makes, since an
                epoch has all interactions.

        Raises:
            ConfigError: On an argument outside its accepted values.
        """
        if steps_per_epoch is not None and batch_size * steps_per_epoch < self.graph.num_edges:
            raise ConfigError(
                f'steps_per_epoch: got {steps_per_epoch} for {type(self).__name__} with batches '
                f'of {batch_size} '
                f"and {self.graph.num_edges} interactions; accepted is it with batch_size='auto'"
            )
        return InteractionLoader(self.graph, batch_size=batch_size, sampler=sampler)

    @contextmanager
    def known_edges(self, data: HeteroData, masks: Sequence[str]) -> Iterator[None]:
        r"""Within this context a model that reads histories knows the interactions ``masks`` of
        ``data`` (:func:`~genrec_pyg.graph.known_masks`); any other one is what it learned from
        training interactions.
        """
        yield

    def score(self, user: Tensor) -> Tensor:
        r"""Scores ``[B, I]`` of all items for users ``user`` ``[B]``: inner product, best interest
        if there are several.
        """
        users, items = self.embeddings()
        return self.add_sparse_scores(best_inner_products(users[user], items), user)

    @property
    def has_sparse_scores(self) -> bool:
        r"""Whether :meth:`add_sparse_scores` adds anything to the inner products."""
        return False

    def add_sparse_scores(self, scores: Tensor, user: Tensor) -> Tensor:
        r"""Adds to ``scores`` ``[B, I]`` of users ``user`` ``[B]`` what is no inner product of
        embeddings, in place.
        """
        return scores

    def history_embeddings(self, approximate: Tensor, histories: Adjacency) -> Tensor:
        r"""Embeddings ``[B, D]`` of new users with ``histories`` ``[B, I]``, given a general
        approximation of them; a model that knows parts of them exactly puts these in their place.
        """
        return approximate

    def add_sparse_history_scores(self, scores: Tensor, histories: Adjacency) -> Tensor:
        r"""As :meth:`add_sparse_scores`, for new users with ``histories`` ``[B, I]``."""
        return scores

    def interest_in_use(self) -> tuple[GeneratedInterest, float] | None:
        r"""The interest in closed form, whose queries are the last channels of the users, and its
        weight; :obj:`None` where embeddings and :meth:`add_sparse_scores` owe nothing to one.
        """
        return None

    def choose(self, data: HeteroData) -> dict[str, Any]:
        r"""Chooses settings on the validation split before training; returns what was chosen, as
        plain values. The trainer calls it once for a model that it trains from the start. It may
        read training and validation edges of ``data`` and no others.
        """
        return {}

    def refine(self, data: HeteroData) -> dict[str, float]:
        r"""Chooses on the validation split what depends on the parameters; the trainer calls it
        before every evaluation that chooses the epoch. It may read what :meth:`choose` may read.
        """
        return {}

    def parts(self) -> dict[str, AbstractContextManager]:
        r"""Contexts by name of the part within which the model scores by that part alone; empty
        where there are no parts.
        """
        return {}

    def top_k(
        self, user: Tensor, k: int, rowptr: Tensor | None = None, col: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""Scores and items of the ``k`` largest entries of :meth:`score` that are not excluded.

        Args:
            user: Users ``[B]``.
            k: Items per user.
            rowptr: Row offsets ``[B + 1]`` of items to leave out.
            col: Items to leave out.

        Returns:
            As :func:`genrec_pyg.ops.topk_excluding`.
        """
        if (
            not self.has_embeddings
            or self._cached is None
            or self._cached[0].dim() == 3
            or self.has_sparse_scores
        ):
            return topk_excluding(self.score(user), k, rowptr, col)
        users, items = self._cached
        return masked_topk(users[user], items, k, rowptr, col)

    @contextmanager
    def cached_embeddings(self) -> Iterator[None]:
        r"""Within this context :meth:`score` computes the embeddings once, without gradient and in
        evaluation mode.
        """
        was_training = self.training
        self.eval()  # evaluation mode (no dropout, running batch statistics), restored below
        try:
            with torch.no_grad():
                self._cached = self.embed() if type(self).embed is not Recommender.embed else None
                yield
        finally:
            self._cached = None
            self.train(was_training)

    def __repr__(self) -> str:
        modalities = ', '.join(self.graph.modalities) or 'none'
        return (
            f'{type(self).__name__}(users={self.num_users}, items={self.num_items}, '
            f'modalities=[{modalities}])'
        )


def best_inner_products(users: Tensor, items: Tensor) -> Tensor:
    r"""Inner products ``[B, I]`` of users ``[B, d]`` and items ``[I, d]``; of users with several
    interests ``[B, K, d]`` those of the best one.
    """
    if users.dim() == 2:
        return users @ items.t()
    best = users[:, 0] @ items.t()
    for interest in range(1, users.size(1)):  # one interest at a time: never [B, K, I]
        best = torch.maximum(best, users[:, interest] @ items.t())
    return best


def parameter_digests(
    model: torch.nn.Module, like: dict[str, tuple[torch.dtype, int]] | None = None
) -> dict[str, tuple[torch.dtype, int]]:
    r"""Type and checksum of every parameter of ``model``.

    Args:
        model: Model.
        like: Earlier digests, in whose types the parameters are compared: a model that was moved to
            float64 has still the parameters that it was made with.
    """
    digests = {}
    for name, parameter in model.named_parameters():
        dtype = parameter.dtype if like is None or name not in like else like[name][0]
        values = parameter.detach().to('cpu', dtype).contiguous()
        digests[name] = dtype, zlib.crc32(values.view(-1).view(torch.uint8).numpy())
    return digests
