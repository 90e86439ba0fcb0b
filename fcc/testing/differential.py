"""vary(): a pass on seeded instances of a graph, each judged against the graph it came from."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx_ir import serde

from fcc import ir
from fcc.analysis import shapes
from fcc.backends import get_backend
from fcc.errors import FccError, LoadError, TargetError
from fcc.frontend import read
from fcc.ir.text import canonical
from fcc.rewrite import Log, Pass, PassContext, run_pass
from fcc.rewrite.log import Refusal
from fcc.runtime.protos import nodes
from fcc.target import get_target

from .oracle import Array, Evaluator, Feeds, coarsest, difference, evaluators, excused
from .sources import draws, fits, infers, is_empty, judges, misshapen, refusal, words
from .variations import Instance, instances

INVALID = "invalid"
INTEGERS = 8
ROUNDS = 12  # runs of a pass within which it must come to an end
NEVER_EMPTY = frozenset({"Attention"})  # operators whose kernel refuses empty tensors
# kernels end the process on an empty tensor; the reference evaluator takes any rank
DEADLY = frozenset({"Einsum", "GRU", "LSTM", "RNN"})


@dataclass
class Tally:
    """How many instances were drawn, how they ended, and what was wrong with the failing ones.

    ``outcomes`` maps the digest of an instance to what the pass did there: the graph it made, or its reasons.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    outcomes: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return ", ".join(f"{n} {what}" for what, n in sorted(self.counts.items()))


def vary(
    p: Pass,
    source: onnx.ModelProto,
    *,
    count: int = 100,
    seed: str = "0",
    target: str = "cpu",
    sizes: Mapping[str, int] | None = None,
    bitwise: bool = False,
) -> Tally:
    """Run a pass on ``count`` instances of a model and judge each result; ``Tally.failures`` says what is wrong.

    An instance has other sizes (0, 1, a symbol), element types, operators, attributes, operand orders, constants
    (special numbers, overridable, computed, shared), users, graph outputs, an opset, or stands in a branch or a loop.
    Those that onnx.checker or the evaluator refuse are not judged. On the others the pass must not raise, must keep the
    graph valid, what is declared and what it computes (several sizes of the symbols, several distributions), and come
    to an end when it runs again and again. ``bitwise``: the pass claims to keep NaN and infinities as well.
    """
    tally = Tally()
    for instance in instances(source, count, f"{seed}:{p.name}"):
        if instance is None:
            tally.counts[INVALID] += 1
            continue
        judge = Judge(p, instance, target, {**(sizes or {}), **instance.sizes}, bitwise)
        outcome = judge.outcome()
        tally.counts[outcome.partition(":")[0]] += 1
        if judge.did:
            tally.outcomes[digest(p, target, instance.model)] = judge.did
        if outcome.startswith("wrong"):
            tally.failures.append(judge.described(outcome))
    return tally


@dataclass
class Judge:
    """One instance: valid or not, refused or rewritten, right or wrong."""

    p: Pass
    instance: Instance
    target: str = "cpu"
    sizes: Mapping[str, int] = field(default_factory=dict)
    bitwise: bool = False
    after: onnx.ModelProto | None = None
    noted: bool = False
    did: str = ""
    log: Log = field(default_factory=Log)

    def outcome(self) -> str:
        """Return "invalid", "refused", "right" (with a remark), or "wrong: reason"."""
        source = self.instance.model
        if refusal(source):
            return INVALID
        if any(misshapen(n, source) for n in nodes(source)):
            return INVALID
        try:
            module = read(source)
        except LoadError:
            return INVALID
        except Exception as error:
            return self._unless_invalid(f"import raised {words(error)}")
        try:
            shapes.infer(module)
        except Exception as error:
            return self._unless_invalid(f"shape inference raised {words(error)}")
        before = canonical(module)
        try:
            applied = self._settle(module)
            ir.verify(module)
        except Exception as error:
            return self._unless_invalid(f"the pass raised {words(error)}")
        self.did = said(module, self.log.refused) if applied else said(None, self.log.refused)
        if not applied:
            return "refused" if canonical(module) == before else self._unless_invalid("changed, and said it did not")
        if not self.p.exact:
            return "right but not compared"
        return self._compared(module)

    def _settle(self, module: ir.Module) -> int:
        """Run the pass until it changes nothing and return the number of applications of all rounds but the last."""
        total = 0
        for _ in range(ROUNDS):
            applied = self._run(module)
            if not applied:
                return total
            total += applied
        raise RuntimeError(f"it does not come to an end: {total} applications in {ROUNDS} rounds")

    def _run(self, module: ir.Module) -> int:
        self.log = Log(strict=True, explain=frozenset({self.p.name}))
        return run_pass(self.p, module, PassContext(target=get_target(self.target), log=self.log))

    def _unless_invalid(self, reason: str) -> str:
        return f"wrong: {reason}" if any(True for _ in self._runs()) else INVALID

    def _runs(self) -> Iterator[tuple[Evaluator, Feeds, list[Array]]]:
        """Yield the evaluators, inputs and answers of the source, where it has answers that fit its declarations."""
        source = self.instance.model
        deadly = any(n.op_type in DEADLY for n in nodes(source))
        if deadly and is_empty(source):
            return
        for evaluator in evaluators(source)[: 1 if deadly else None]:
            some = False
            for feeds in draws(source, self.sizes, self.bitwise, self.instance.ranks):
                if deadly and any(0 in np.shape(v) for v in feeds.values()):
                    continue
                try:
                    answers = evaluator.run(feeds)
                except Exception:
                    continue
                if fits(source, feeds, answers):
                    some = True
                    yield evaluator, feeds, answers
            if some:
                return

    def _compared(self, module: ir.Module) -> str:
        runs = list(self._runs())
        if not any(judges(feeds, self.instance.model) for _, feeds, _ in runs):
            return INVALID
        self.after = serde.serialize_model(module.model)
        self._declare()
        reason = self._valid(runs) or self._same(runs)
        if reason:
            return INVALID if reason == INVALID else f"wrong: {reason}"
        return "right but for the runtime" if self.noted else "right"

    def _valid(self, runs: Sequence[tuple[Evaluator, Feeds, list[Array]]]) -> str:
        assert self.after is not None
        if reason := refusal(self.after):
            bound = all(infers(self.instance.model, feeds) for _, feeds, _ in runs)
            bound = bound and self._by_reference(runs[0][1])
            return f"the checker refuses the result: {reason}" if bound else INVALID
        old, new = self.instance.model.graph, self.after.graph
        names = [[v.name for v in values] for values in (old.input, old.output, new.input, new.output)]
        return "" if names[:2] == names[2:] else f"inputs or outputs became {names[2:]}"

    def _by_reference(self, feeds: Feeds) -> bool:
        try:
            Evaluator(self.instance.model, runtime=False).run(feeds)
        except NotImplementedError:
            return True
        except Exception:
            return False
        return True

    def _declare(self) -> None:
        """Declare the inputs as the source does, as emission would: inference may know more of them."""
        assert self.after is not None
        given = {v.name: v for v in self.instance.model.graph.input}
        for v in self.after.graph.input:
            if v.name in given:
                v.CopyFrom(given[v.name])

    def _same(self, runs: Sequence[tuple[Evaluator, Feeds, list[Array]]]) -> str:
        assert self.after is not None
        source, limit = self.instance.model, max(coarsest(self.instance.model), coarsest(self.after))
        runtime = runs[0][0].session is not None
        try:
            new = Evaluator(self._runnable() if runtime else self.after, runtime)
        except Exception as error:
            self.noted = self.target != "cpu" and isinstance(error, TargetError)  # kernels that are not here
            return "" if self.noted else f"the result does not load: {words(error)}"
        for _, feeds, old in runs:
            try:
                found = new.run(feeds)
            except Exception as error:
                why, found = f"the result does not run: {words(error)}", []
                if not runtime and self._empty(feeds):  # the reference evaluator cannot reshape what is empty
                    self.noted = True
                    continue
            else:
                pairs = zip(old, found, strict=True)
                why = next((w for a, b in pairs if (w := difference(a, b, limit, self.bitwise))), "")
            if not why or (found and excused(source, feeds, old, found, limit)):
                continue
            if not self._runtime(feeds, limit):
                return why + _shown(feeds)
            self.noted = True
        return ""

    def _empty(self, feeds: Feeds) -> bool:
        return any(0 in np.shape(v) for v in feeds.values()) or is_empty(self.instance.model)

    def _runtime(self, feeds: Feeds, limit: float) -> bool:
        """Return whether a difference is onnxruntime's own: the reference evaluator gives both models one answer.

        Its kernels leave the specification on a size of 0 (a reduction keeps an empty axis, attention refuses an empty
        sequence, Concat lets empty operands have other sizes), for a window larger than what it slides over, on NaN
        (MaxPool with indices passes it on, without them not), and round differently where numbers are huge.
        """
        assert self.after is not None
        empty = self._empty(feeds)
        if empty and any(n.op_type in NEVER_EMPTY for n in nodes(self.after)):
            return True
        try:
            old = Evaluator(self.instance.model, runtime=False).run(feeds)
        except Exception:
            return empty
        try:
            new = Evaluator(self.after, runtime=False).run(feeds)
        except Exception:
            return False
        return not any(difference(a, b, limit, self.bitwise) for a, b in zip(old, new, strict=True))

    def _runnable(self) -> onnx.ModelProto:
        """Return the result as the CPU provider can load it: lowered where it has no kernel."""
        assert self.after is not None
        try:
            Evaluator(self.after)
        except FccError:
            module = read(self.after)
            shapes.infer(module)
            get_backend(get_target("cpu")).legalize(module, PassContext(target=get_target("cpu")))
            return serde.serialize_model(module.model)
        return self.after

    def described(self, outcome: str) -> str:
        """Return a failure with all that is needed to see it again."""
        after = "" if self.after is None else f"\nbecame\n{_text(self.after)}"
        steps = ", ".join(self.instance.steps)
        return f"{self.p} ({self.target}) {outcome}\nafter {steps}\n{_text(self.instance.model)}{after}"


def digest(p: Pass, target: str, model: onnx.ModelProto) -> str:
    """Return a short digest of a model, and of what is asked of it."""
    text = f"{p} {target} ".encode() + model.SerializeToString(deterministic=True)
    return hashlib.sha1(text).hexdigest()[:10]


def said(module: ir.Module | None, refused: Sequence[Refusal]) -> str:
    """Return what a pass did: the graph it made (None: none) with its integers, and why it did nothing elsewhere."""
    reasons = "; ".join(dict.fromkeys(r.reason for r in refused))
    if module is None:
        return reasons
    integers = []
    for graph in module.graphs():
        for value in graph.initializers.values():
            array = ir.Module.constant(value)
            if array is not None and array.dtype.kind in "iu" and array.size <= INTEGERS:
                integers.append(array.ravel().tolist())
    return f"{canonical(module)}{integers}; {reasons}"


def _shown(feeds: Feeds) -> str:
    return " on " + ", ".join(f"{k} {v.dtype}{list(v.shape)}" for k, v in feeds.items())


def _text(model: onnx.ModelProto) -> str:
    text = str(onnx.printer.to_text(model))
    return "\n".join(line if len(line) < 300 else line[:300] + " ..." for line in text.splitlines())
