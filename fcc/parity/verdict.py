"""The answer of parity."""

from __future__ import annotations

from dataclasses import dataclass

from fcc.errors import ParityError

from .meter import Row


@dataclass(frozen=True)
class Verdict:
    """Whether a candidate gives the answers of its source.

    ``skipped_reason`` says why nothing was compared (then ``ok`` is True: nothing speaks against the candidate);
    ``failure`` says why the candidate did not run at all. ``figure`` is the value of the metric asked for.
    """

    ok: bool
    rows: tuple[Row, ...] = ()
    feeds: int = 0
    notes: tuple[str, ...] = ()
    skipped_reason: str = ""
    failure: str = ""
    figure: float = 0.0

    @property
    def ran(self) -> bool:
        """Whether a comparison took place."""
        return not self.skipped_reason

    @property
    def worst(self) -> Row | None:
        """The output nearest to its limit, or furthest beyond it."""
        judged = [r for r in self.rows if r.judged]
        return max(judged, key=lambda r: (r.strain, r.error), default=None)

    @property
    def error(self) -> float:
        """The error of the worst output."""
        return self.worst.error if self.worst is not None else 0.0

    @property
    def limit(self) -> float:
        """The limit of the worst output."""
        return self.worst.limit if self.worst is not None else 0.0

    def __str__(self) -> str:
        if self.skipped_reason:
            return f"parity not run: {self.skipped_reason}"
        if self.failure:
            return self.failure
        row = self.worst
        if row is None:
            return "nothing to compare"
        relation = "within" if row.ok else "beyond"
        note = f" ({row.note})" if row.note else ""
        return f"output {row.name}: error {row.error:.2g}, {relation} its limit {row.limit:.2g}{note}"

    def require(self) -> None:
        """Raise when the candidate is wrong.

        Raises:
            ParityError: with the outputs beyond their limits, worst first.
        """
        if self.ok:
            return
        bad = sorted((r for r in self.rows if not r.ok), key=lambda r: -r.strain)
        raise ParityError(
            f"the outputs moved: {self}",
            "see --verify each, or fcc bisect",
            worst=[(r.name, r.error, r.limit) for r in bad],
        )
