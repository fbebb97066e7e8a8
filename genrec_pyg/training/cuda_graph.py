r"""Training steps recorded as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError

#: Steps that run as usual before one is recorded: they compile kernels, build cached layouts and
#: take the decisions for which the host must read from the device.
EAGER_STEPS = 3

Step = Callable[[Any], dict[str, Tensor]]


class Recorder:
    r"""Runs functions on a stream of their own, as recording demands, and records them there.

    Args:
        device: CUDA device.
    """

    def __init__(self, device: torch.device):
        self.stream = torch.cuda.Stream(device)

    def run(self, function: Callable[[], Any]) -> Any:
        r"""Calls ``function``; work before and after this call waits for it as it would without the
        stream.
        """
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = function()
        current.wait_stream(self.stream)
        return result

    def record(self, function: Callable[[], Any]) -> Callable[[], Any]:
        r"""Records the device's part of ``function``, which does not run. Calling the result runs
        it, on the memory that was read and written when it was recorded, and returns what
        ``function`` returned then, with new contents.

        Raises:
            RuntimeError: If ``function`` waits for the device.
        """
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            result = function()

        def replay() -> Any:
            graph.replay()
            return result

        return replay


class RecordedStep:
    r"""A recorded training step that the device replays without the host: for small models the host
    needs longer to launch the hundreds of kernels of a step than the device to run them, and a
    graph is one launch.

    The first :data:`EAGER_STEPS` batches run as usual. The next is recorded, and from then on
    batches are copied to where it lay. A batch of another size, as the last of an epoch is, runs as
    usual. What the step reads besides the batch must stay in its place: where it does not, as a
    graph that is generated again, make a new object.

    Args:
        step: Trains on a batch, a named tuple of tensors, and returns loss terms. The terms of a
            recorded batch are valid until the next one.
        optimizer: The fused optimizer that ``step`` uses.
        recorder: Runs and records.
    """

    def __init__(self, step: Step, optimizer: torch.optim.Optimizer, recorder: Recorder):
        self.step = step
        self.optimizer = optimizer
        self.recorder = recorder
        self._num_eager = 0
        self._batch: Any = None
        self._replay: Callable[[], dict[str, Tensor]] | None = None

    def __call__(self, batch: Any) -> dict[str, Tensor]:
        if self._batch is None:
            self._batch = type(batch)(*(column.clone() for column in batch))
        if any(
            column.shape != place.shape for column, place in zip(batch, self._batch, strict=True)
        ):
            return self.step(batch)
        if self._num_eager < EAGER_STEPS:
            self._num_eager += 1
            return self.recorder.run(lambda: self.step(batch))
        if self._replay is None:
            self._replay = self._record()
        for column, place in zip(batch, self._batch, strict=True):
            place.copy_(column)
        return self._replay()

    def _record(self) -> Callable[[], dict[str, Tensor]]:
        # The counts of steps of a fused optimizer are on the device in any case; the flag says that
        # they must be.
        self._set_capturable(True)
        try:
            return self.recorder.record(lambda: self.step(self._batch))
        except RuntimeError as error:
            raise ConfigError(
                'cuda_graph: got True, but the step cannot be recorded '
                f'({str(error).splitlines()[0]}); accepted for this model is False'
            ) from error
        finally:
            self._set_capturable(False)

    def _set_capturable(self, value: bool) -> None:
        for group in self.optimizer.param_groups:
            group['capturable'] = value
