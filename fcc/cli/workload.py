"""What models are run on when they are timed: a session and one feed, from the options of a command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class Workload:
    """Data or sizes, threads and libraries; ``provider`` runs the models; ``skip_bad`` leaves out files of a folder."""

    provider: str = CPU
    data: Any = None
    state: Mapping[str, str] = field(default_factory=dict)
    opt_shapes: Mapping[str, Any] | None = None
    seed: int = 0
    threads: int = 1
    custom_ops: Sequence[str] = ()
    skip_bad: bool = False

    def open(self, model: Any, folder: str | None = None) -> Any:
        """Return a session of a model with default options on the provider.

        Raises:
            TargetUnavailable: the provider is not here.
            LoadError: the runtime cannot read the model.
        """
        from fcc.runtime import open_session

        more: dict[str, Any] = {"threads": self.threads, "custom_ops": self.custom_ops, "folder": folder}
        return open_session(model, provider=self.provider, **more)

    def require(self, module: Any) -> None:
        """Check, before a session is made, that a run on probes fits into memory; data is taken as it is.

        Raises:
            DataError: it does not, or no probe can be made.
        """
        from fcc.data.probes import require_small
        from fcc.data.spec import inputs_of
        from fcc.data.usual import by_input

        if self.data is None:
            require_small(module, by_input(inputs_of(module), self.opt_shapes))

    def feed(self, module: Any, session: Any) -> dict[str, Any]:
        """Return one feed: the first sample of the data or a probe, at the opt-shape.

        Raises:
            DataError: the data does not fit, or no probe can be made.
        """
        from fcc.data.dataset import open_data
        from fcc.data.probes import probes
        from fcc.data.spec import inputs_of
        from fcc.data.usual import at_sizes, by_input

        specs = inputs_of(module)
        shapes = by_input(specs, self.opt_shapes)
        if self.data is None:
            return dict(probes(module, seed=self.seed, count=1, opt_shapes=shapes, run=session.run)[0])
        outputs = [o.name for o in session.outputs]
        how: dict[str, Any] = {"opt_shapes": shapes, "state": self.state or None, "outputs": outputs}
        data = open_data(self.data, specs, **how, skip_bad=self.skip_bad)
        return dict(at_sizes(data.first(), shapes, session.run))
