from dataclasses import dataclass
from typing import ClassVar

import pytest

from fcc.errors import PipelineError
from fcc.ir import Module
from fcc.rewrite import ModulePass, PassContext
from fcc.rewrite.pipeline import Pipeline, parse


@dataclass(frozen=True)
class Shrink(ModulePass):
    name: ClassVar[str] = "shrink"
    ratio: float = 0.5
    rank: int | None = None
    loud: bool = False

    def check_module(self, module: Module, ctx: PassContext) -> str | None:
        return "nothing"

    def run(self, module: Module, ctx: PassContext) -> int:
        return 0


@dataclass(frozen=True)
class Tidy(Shrink):
    name: ClassVar[str] = "tidy"


KNOWN = {"shrink": Shrink, "tidy": Tidy}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "shrink",
        "shrink,tidy",
        "shrink{ratio=0.25,rank=8}",
        "fixpoint(shrink,tidy{loud=True}),tidy",
        "fixpoint(fixpoint(tidy))",
    ],
)
def test_text_reads_back(text: str) -> None:
    assert str(parse(text, KNOWN)) == text


def test_options_take_the_types_of_the_fields() -> None:
    (p,) = parse("shrink{ratio=0.25, rank=8, loud=true}", KNOWN).steps
    assert p == Shrink(ratio=0.25, rank=8, loud=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shrnk", "did you mean 'shrink'"),
        ("shrink{ration=1}", "did you mean 'ratio'"),
        ("shrink{rank=high}", "does not take 'high'"),
        ("shrink{loud=maybe}", "takes true or false"),
        ("shrink{rank", "not closed"),
        ("shrink{rank}", "written key=value"),
        ("fixpoint(shrink", "not closed"),
        ("shrink)", "unexpected"),
        ("shrink tidy", "expected ','"),
        ("shrink;tidy", "cannot read"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message.replace("(", r"\(")):
        parse(text, KNOWN)


def test_without_reaches_into_fixpoints_and_drops_empty_ones() -> None:
    pipeline = parse("shrink,fixpoint(tidy),fixpoint(shrink,tidy)", KNOWN)
    assert str(pipeline.without(["tidy"])) == "shrink,fixpoint(shrink)"
    assert isinstance(pipeline, Pipeline)
    assert [p.name for p in pipeline.passes()] == ["shrink", "tidy", "shrink", "tidy"]


def test_an_instance_keeps_the_options_that_the_text_leaves_out() -> None:
    from fcc.passes.fold_constants import FoldConstants

    (found,) = parse("fold-constants{growth=5}", {"fold-constants": FoldConstants(growth=1, elements=7)}).steps
    assert found == FoldConstants(growth=5, elements=7)


@dataclass(frozen=True)
class Polish(Shrink):
    name: ClassVar[str] = "polish"
    finishing: ClassVar[bool] = True


def test_split_at_the_first_finishing_pass() -> None:
    known = {**KNOWN, "polish": Polish}
    before, finish = parse("shrink,fixpoint(tidy),polish,tidy,polish", known).split()
    assert (str(before), str(finish)) == ("shrink,fixpoint(tidy)", "polish,tidy,polish")
    before, finish = parse("shrink,fixpoint(polish)", known).split()
    assert (str(before), str(finish)) == ("shrink,fixpoint(polish)", "")
