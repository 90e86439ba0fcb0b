"""What is done with every sample, and what is collected of it: as it goes to other processes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from fcc.data.dataset import Data
from fcc.data.identity import file_digest
from fcc.data.spec import Feeds

from .external import external_files
from .session import CPU, Session, open_session


class Mergeable(Protocol):
    """What is gathered."""

    def merged(self, other: Any) -> Any:
        """Return what both have seen, this one first."""


class Collector(Protocol):
    """What a chunk of samples adds."""

    def add(self, tensors: Any, number: int) -> None:
        """Add what the job made of a sample; samples are numbered from 0."""

    def done(self) -> Mergeable:
        """Return what was collected."""


@dataclass(frozen=True)
class Model:
    """A model to be run, as it goes to other processes: its bytes, and the folder of its external data."""

    data: bytes
    provider: str = CPU
    threads: int = 1
    custom_ops: tuple[str, ...] = ()
    folder: str | None = None

    def session(self) -> Session:
        """Return a new session."""
        return open_session(
            self.data,
            provider=self.provider,
            threads=self.threads,
            custom_ops=self.custom_ops,
            folder=self.folder,
        )

    @property
    def identity(self) -> tuple[Any, ...]:
        """What results depend on: weights outside of the file count by their contents, wherever they lie."""
        files = [*external_files(self.data, self.folder), *self.custom_ops]
        return self.data, self.provider, self.threads, [file_digest(f) for f in files]


class Job(ABC):
    """What is done with every sample: goes to other processes as it is, and opens its sessions once in each."""

    @abstractmethod
    def open(self) -> Any:
        """Return what ``tensors`` and ``loop`` need."""

    @abstractmethod
    def tensors(self, sample: Feeds) -> Any:
        """Return what a collector takes of one sample."""

    @abstractmethod
    def loop(self, samples: Data) -> Iterator[Any]:
        """Yield the same for samples with state, in a closed loop."""

    @abstractmethod
    def collector(self) -> Collector:
        """Return one that has seen nothing."""

    @property
    @abstractmethod
    def identity(self) -> Any:
        """What the results depend on, besides the samples and the versions of what is installed."""

    @cached_property
    def opened(self) -> Any:
        """The sessions; they stay where they are when the job is sent elsewhere."""
        return self.open()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "opened"}

    def chunk(self, items: Iterable[Any], start: int) -> tuple[Any, int]:
        """Return what a chunk adds, and its number of samples; ``items`` is what was made of them."""
        found, size = self.collector(), 0
        for item in items:
            found.add(item, start + size)
            size += 1
        return found.done(), size
