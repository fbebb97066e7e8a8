r"""Training in several processes that gives the result of one process.

Every process runs the propagation over the whole graph, so batch normalization and dropout are
those of one process as long as all draw the same random numbers, which
:meth:`Distributed.synchronize` ensures. A batch, the evaluated users and, if sharded, the embedding
tables with their gradients and optimizer state are split.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Shard, distribute_tensor
from torch.nn import Parameter
from torch.nn.parallel import DistributedDataParallel

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import Recommender
from genrec_pyg.optim import MirrorGradient
from genrec_pyg.runs.shards import in_memory
from genrec_pyg.training.same_work import check_equal, model_fields
from genrec_pyg.training.seed import rng_state, set_rng_state
from genrec_pyg.utils.collectives import ALONE, Processes, equal_work, shared_batch

#: ``ddp``: every process holds the whole model. ``sharded``: user and item tables are split by
#: rows.
MODES = ('ddp', 'sharded', 'grid')


class _Table:
    r"""An embedding table of which this process holds some rows. While it is sharded, the attribute
    of the module is a property that gathers it: a parametrization of torch that also works for
    names that torch's container refuses, such as ``items``.

    Args:
        module: Module whose parameter it is.
        attribute: Name of that parameter in the module.
        name: Its name in the model.
        mesh: The processes.
    """

    def __init__(self, module: torch.nn.Module, attribute: str, name: str, mesh: DeviceMesh):
        self.module, self.attribute, self.name = module, attribute, name
        self.shard = Parameter(
            distribute_tensor(getattr(module, attribute).detach(), mesh, [Shard(0)])
        )
        self.keep_whole = False
        self._whole: Tensor | None = None
        self._module_class = type(module)
        delattr(module, attribute)
        module.register_parameter(f'{attribute}_shard', self.shard)
        gathered = {attribute: property(lambda module: self.whole())}
        module.__class__ = type(self._module_class.__name__, (self._module_class,), gathered)

    @property
    def sharded_name(self) -> str:
        return f'{self.name}_shard'

    def whole(self) -> Tensor:
        r"""The table; its gradient goes back as the mean over the processes, as that of other
        parameters does.
        """
        if self._whole is not None:
            return self._whole
        table = self.shard.full_tensor(grad_placements=[Partial()])
        if table.requires_grad:
            size = self.shard.device_mesh.size()
            table.register_hook(lambda grad: grad / size)
        if self.keep_whole:
            self._whole = table
        return table

    def keep(self, whole: bool) -> None:
        r"""Whether the gathered table is kept for further uses."""
        self.keep_whole, self._whole = whole, None

    def restore(self) -> None:
        r"""Makes the whole table the module's parameter again."""
        whole = Parameter(self.shard.detach().full_tensor())
        self.module.__class__ = self._module_class
        delattr(self.module, f'{self.attribute}_shard')
        self.module.register_parameter(self.attribute, whole)


class _Loss(torch.nn.Module):
    r"""The loss as a forward pass. Only the given parameters are registered: what has its own
    optimizer is not averaged, and sharded tables are averaged where they are gathered.
    """

    def __init__(self, model: Recommender, parameters: list[Parameter]):
        super().__init__()
        self.averaged = torch.nn.ParameterList(parameters)
        vars(self)['model'] = model

    def forward(self, batch: Any) -> dict[str, Tensor]:
        return self.model.loss(batch)


class Distributed:
    r"""How the trainer's model is shared among processes; with one process it changes nothing.

    Args:
        mode: ``'ddp'``, the model in every process and gradients averaged, or ``'sharded'``, in
            which tables of one row per user or item, their gradients and their optimizer state are
            split by rows and gathered while they are used.
        processes: The processes, in each of which the trainer does the same.

    Raises:
        ConfigError: On an unknown mode.
    """

    def __init__(self, mode: str = 'ddp', processes: Processes = ALONE):
        if mode not in MODES:
            raise ConfigError(
                f'distributed: got {mode!r}, accepted are {", ".join(map(repr, MODES))}'
            )
        self.mode = mode
        self.processes = processes
        self._model: Recommender | None = None
        self._loss: torch.nn.Module | None = None
        self._parameters: list[Parameter] = []  # in the order of the optimizer of one process
        self._tables: list[_Table] = []

    def device(self, device: torch.device) -> torch.device:
        r"""The device of this process: of several GPUs the one of its number.

        Raises:
            ConfigError: If all processes would share one GPU, or there are more of them than GPUs.
        """
        if self.processes.size == 1 or device.type != 'cuda':
            return device
        if device.index is not None or self.processes.local_rank >= torch.cuda.device_count():
            raise ConfigError(
                f"device: got '{device}' for process {self.processes.local_rank} of this machine, "
                f"accepted are 'auto', 'cpu', and 'cuda' with at most {torch.cuda.device_count()} "
                f'processes per machine'
            )
        device = torch.device('cuda', self.processes.local_rank)
        torch.cuda.set_device(device)
        return device

    def attach(self, model: Recommender) -> None:
        r"""Takes ``model``, on its device: shards its tables, prepares averaging, and makes all
        processes equal to the main one.
        """
        self._model = model
        self._parameters = list(model.trained_parameters())
        self._tables = []
        if self.processes.size == 1:
            return
        check_equal(self.processes, model_fields(model))
        if self.mode == 'sharded':
            self._shard_tables()
        averaged = [
            parameter for parameter in self._parameters if not isinstance(parameter, DTensor)
        ]
        self._loss = _Loss(model, averaged)
        if averaged:
            # Which parameters take part depends on the options of the model.
            self._loss = DistributedDataParallel(self._loss, find_unused_parameters=True)
        self.synchronize()

    def detach(self) -> None:
        r"""Leaves the model as it was taken, with its tables whole."""
        # several tables of one module are layers around its class
        for table in reversed(self._tables):
            table.restore()
        self._tables, self._parameters, self._loss, self._model = [], [], None, None

    def _shard_tables(self) -> None:
        model = self._model
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        mesh = init_device_mesh(self._parameters[0].device.type, (self.processes.size,))
        rows = (model.num_users, model.num_items, model.num_users + model.num_items)
        for position, parameter in enumerate(self._parameters):
            if parameter.dim() != 2 or parameter.size(0) not in rows:
                continue
            name = names[id(parameter)]
            prefix, _, attribute = name.rpartition('.')
            self._tables.append(_Table(model.get_submodule(prefix), attribute, name, mesh))
            self._parameters[position] = self._tables[-1].shard

    @contextmanager
    def whole_tables(self) -> Iterator[None]:
        r"""Within this context every sharded table is gathered once, at its first use, and kept."""
        for table in self._tables:
            table.keep(True)
        try:
            yield
        finally:
            for table in self._tables:
                table.keep(False)

    def loss(self, batch: Any) -> dict[str, Tensor]:
        r"""Terms whose mean over the processes is that of the whole ``batch``, each from the rows
        of its process.
        """
        size = self.processes.size
        if size == 1:
            return self._model.loss(batch)
        num_rows = batch[0].size(0)
        if not self._model.splits_batch or num_rows < size:
            with self.whole_tables(), equal_work(self.processes):
                return self._loss(batch)
        part = self.processes.slice(num_rows)
        weight = (part.stop - part.start) * size / num_rows
        with self.whole_tables(), shared_batch(self.processes, num_rows):
            terms = self._loss(type(batch)(*(column[part] for column in batch)))
        return {name: term * weight for name, term in terms.items()}

    def means(self, values: dict[str, Tensor]) -> dict[str, float]:
        r"""Means of scalars over the processes."""
        if not values:
            return {}
        stacked = torch.stack([value.double() for value in values.values()])
        return dict(zip(values, (self.processes.sum(stacked) / self.processes.size).tolist()))

    def optimized_parameters(self) -> list[Parameter] | list[dict[str, Any]]:
        r"""Returns the parameters for the optimizer, in two groups if some are sharded, since no
        fused step mixes them.
        """
        if not self._tables:
            return self._parameters
        return [{'params': group} for group in self._groups() if group]

    def clip_gradients(self, max_norm: float) -> None:
        r"""Scales gradients so that their norm over all parameters and shards is at most
        ``max_norm``.
        """
        if not self._tables:
            torch.nn.utils.clip_grad_norm_(self._parameters, max_norm)
            return
        shards, rest = (
            [parameter.grad for parameter in group if parameter.grad is not None]
            for group in self._groups()
        )
        shards = [grad.to_local() for grad in shards]
        square = self.processes.sum(torch.nn.utils.get_total_norm(shards).square())
        norm = (square + torch.nn.utils.get_total_norm(rest).to(square).square()).sqrt()
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for grad in [*shards, *rest]:
            grad.mul_(factor)

    def _groups(self) -> tuple[list[Parameter], list[Parameter]]:
        return (
            [parameter for parameter in self._parameters if isinstance(parameter, DTensor)],
            [parameter for parameter in self._parameters if not isinstance(parameter, DTensor)],
        )

    def model_state(self, model: Recommender) -> dict[str, Any]:
        r"""State of ``model`` as one process has it, tables whole."""
        names = {table.sharded_name: table.name for table in self._tables}
        return {names.get(name, name): _whole(value) for name, value in model.state_dict().items()}

    def load_model_state(self, model: Recommender, state: dict[str, Any]) -> None:
        r"""Loads a state of one process, whatever number of processes wrote it."""
        tables, state = {table.name: table for table in self._tables}, in_memory(state)
        model.load_state_dict(
            {
                tables[name].sharded_name if name in tables else name: _like(
                    tables[name].shard, value
                )
                if name in tables
                else value
                for name, value in state.items()
            }
        )

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        r"""State of the optimizer as one process has it: one group, states whole."""
        if isinstance(optimizer, MirrorGradient):
            return {
                **optimizer.state_dict(),
                'optimizer': self.optimizer_state(optimizer.optimizer),
            }
        state = optimizer.state_dict()
        if not self._tables:
            return state
        position = {
            number: self._position(parameter)
            for number, parameter in enumerate(sum(self._groups(), []))
        }
        group = {**state['param_groups'][0], 'params': list(range(len(self._parameters)))}
        states = {
            position[number]: {key: _whole(value) for key, value in entry.items()}
            for number, entry in state['state'].items()
        }
        return {'state': dict(sorted(states.items())), 'param_groups': [group]}

    def load_optimizer_state(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        r"""Loads a state of one process, whatever number of processes wrote it."""
        if isinstance(optimizer, MirrorGradient) != ('optimizer' in state):
            asked = isinstance(optimizer, MirrorGradient)
            raise ConfigError(
                f'mirror_gradient: got {asked} for a checkpoint written with {not asked}, '
                f'accepted is the same'
            )
        if isinstance(optimizer, MirrorGradient):
            state = {
                **state,
                'optimizer': self._split_state(optimizer.optimizer, state['optimizer']),
            }
        else:
            state = self._split_state(optimizer, state)
        optimizer.load_state_dict(in_memory(state))

    def _split_state(
        self, optimizer: torch.optim.Optimizer, state: dict[str, Any]
    ) -> dict[str, Any]:
        r"""Returns this process's part of a state of one process."""
        if self._tables:
            state = in_memory(state)
            groups, numbers = [], iter(range(len(self._parameters)))
            for group in optimizer.param_groups:
                groups.append(
                    {**state['param_groups'][0], 'params': [next(numbers) for _ in group['params']]}
                )
            states = {}
            for number, parameter in enumerate(sum(self._groups(), [])):
                entry = state['state'].get(self._position(parameter))
                if entry is not None:
                    states[number] = {key: _like(parameter, value) for key, value in entry.items()}
            state = {'state': states, 'param_groups': groups}
        return state

    def _position(self, parameter: Parameter) -> int:
        return next(index for index, other in enumerate(self._parameters) if other is parameter)

    @torch.no_grad()
    def synchronize(self) -> None:
        r"""Gives all processes what the main one has: buffers, parameters with their own optimizer,
        further state such as generated edges, and random state. What is computed alike in all of
        them may still differ in rounding, and a choice that hangs on it would let the processes
        drift apart.
        """
        if self.processes.size == 1:
            return
        averaged = {id(parameter) for parameter in self._own_parameters()}
        for tensor in [*self._model.buffers(), *self._model.parameters()]:
            if id(tensor) not in averaged:
                dist.broadcast(tensor.detach(), 0)
        device = next(self._model.parameters()).device
        further = self.processes.on_main(
            lambda: _to_bytes(
                [
                    [
                        module.get_extra_state() if _has_extra_state(module) else None
                        for module in self._model.modules()
                    ],
                    {
                        **rng_state(),
                        'device': torch.cuda.get_rng_state(device)
                        if device.type == 'cuda'
                        else None,
                    },
                ]
            )
        )
        if self.processes.is_main:
            return
        states, random_state = torch.load(
            io.BytesIO(further), map_location='cpu', weights_only=True
        )
        for module, state in zip(self._model.modules(), states):
            if _has_extra_state(module):
                module.set_extra_state(state)
        # of the main process's machine: here only the own device counts
        random_state.pop('cuda', None)
        set_rng_state(random_state)
        if random_state['device'] is not None:
            torch.cuda.set_rng_state(random_state['device'], device)

    @contextmanager
    def pieces(self, folder: Path, tag: str) -> Iterator[None]:
        r"""Within this context states of this object may name pieces of tables, which are on disk
        at its end.
        """
        yield

    def _own_parameters(self) -> list[Parameter]:
        r"""Parameters that are kept equal, or divided, by other means than :meth:`synchronize`."""
        return self._parameters

    def sum_gradients(self) -> None:
        r"""Called after every backward pass; here gradients are averaged within it."""

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.mode!r}, {self.processes!r})'


def _has_extra_state(module: torch.nn.Module) -> bool:
    return type(module).get_extra_state is not torch.nn.Module.get_extra_state


def _to_bytes(state: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _whole(value: Any) -> Any:
    return value.full_tensor() if isinstance(value, DTensor) else value


def _like(parameter: Parameter, value: Any) -> Any:
    r"""``value`` split as ``parameter`` is, where it has its shape; a count of steps stays
    whole.
    """
    if (
        not isinstance(parameter, DTensor)
        or not isinstance(value, Tensor)
        or value.shape != parameter.shape
    ):
        return value
    return distribute_tensor(
        value.to(parameter.device, parameter.dtype), parameter.device_mesh, parameter.placements
    )
