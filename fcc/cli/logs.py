"""fcc's own log records on stderr, one line each; warnings of libraries only under --debug."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from .failure import say


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.levelname.lower(), record.getMessage())


@contextmanager
def logging_to_stderr(*, verbose: bool = False, debug: bool = False) -> Iterator[None]:
    """Show the records of the logger ``fcc``: warnings, with ``verbose`` information, with ``debug`` everything."""
    logger, handler = logging.getLogger("fcc"), _Lines()
    level = logger.level
    logger.setLevel(logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING)
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            if not debug:
                warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
