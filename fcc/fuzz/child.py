"""Child: a process that answers jobs, and may die of one, or take too long."""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

TICK = 5.0
Say = Callable[[str], None]
Answer = Callable[[Any, Say], Any]


def _serve(pipe: Connection, begin: Callable[..., Answer], args: tuple[Any, ...]) -> None:
    warnings.simplefilter("ignore")
    answer = begin(*args)
    while (job := pipe.recv()) is not None:
        pipe.send(("answer", answer(job, lambda words: pipe.send(("said", words)))))


class Ended(Exception):
    """A child died of a job ("death: last words") or was too late ("late: last words")."""


class Child:
    """A process of its own that calls ``begin(*args)`` once, and what that returns for every job."""

    def __init__(self, begin: Callable[..., Answer], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, begin, args), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, job: Any, seconds: float, say: Say = lambda words: None) -> Any:
        """Return the answer to a job; what the child says meanwhile goes to ``say``, and starts the time anew.

        Raises:
            Ended: the child died, or said nothing for so many seconds in which this process was awake.
        """
        self.pipe.send(job)
        last, waited = "", 0.0
        while waited < seconds:
            try:
                if not self.pipe.poll(TICK):
                    waited += TICK  # a machine that slept meanwhile counts as one tick
                    continue
                kind, got = self.pipe.recv()
            except (EOFError, OSError):
                self.process.join(TICK)
                raise Ended(f"death: exit code {self.process.exitcode}, {last}") from None
            if kind == "answer":
                return got
            last, waited = got, 0.0
            say(got)
        raise Ended(f"late: {last}")

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def mortal(limit: int) -> Answer:
    """Return what answers numbers below a limit, dies of it, and sleeps beyond: a child to try this module with."""

    def answer(job: int, say: Say) -> int:
        say(f"at {job}")
        if job == limit:
            signal.raise_signal(signal.SIGKILL)
        if job > limit:
            signal.pause()
        return job + 1

    return answer
