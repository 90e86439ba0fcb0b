"""Passes of users: from a file, a module, a Pass class or instance, or a GraphSurgeon function."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import OptionError, PipelineError
from .rewrite import Pass


def load(plugins: Iterable[Any]) -> list[Pass]:
    """Return the passes of plugins, each a file path, a module name, a module, a Pass or Pass class, or a function.

    A file or module gives its attribute ``passes`` (passes or functions) when it has one, else an instance of every
    concrete Pass class it defines. A function takes and returns a GraphSurgeon graph.

    Raises:
        OptionError: nothing is found, or importing it fails.
    """
    found: list[Pass] = []
    for plugin in plugins:
        found.extend(
            _from_module(_import(plugin)) if isinstance(plugin, str | Path | ModuleType) else [_as_pass(plugin)]
        )
    return found


def _as_pass(item: Any) -> Pass:
    from .passes.graphsurgeon import GraphSurgeonPass

    if isinstance(item, Pass):
        return item
    if inspect.isclass(item) and issubclass(item, Pass):
        try:
            return item()
        except TypeError as error:
            raise PipelineError(f"plugin pass {item.__name__} needs options: {error}", "give an instance") from None
    if isinstance(item, Callable):  # type: ignore[arg-type]
        return GraphSurgeonPass(item)
    raise OptionError(f"plugin {item!r} is no pass, class of passes, function, file or module")


def _import(plugin: str | Path | ModuleType) -> ModuleType:
    if isinstance(plugin, ModuleType):
        return plugin
    text = str(plugin)
    try:
        if text.endswith(".py") or "/" in text:
            return _import_file(Path(text))
        return importlib.import_module(text)
    except OptionError:
        raise
    except Exception as error:
        raise OptionError(f"plugin {text} cannot be imported: {type(error).__name__}: {error}") from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise OptionError(f"plugin {path} is no file", "give a .py file or the name of an installed module")
    name = f"fcc_plugin_{path.stem}_{abs(hash(path.resolve())):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _from_module(module: ModuleType) -> list[Pass]:
    listed = getattr(module, "passes", None)
    if listed is not None and not isinstance(listed, ModuleType):
        return [_as_pass(item) for item in listed]
    classes = [
        item
        for item in vars(module).values()
        if inspect.isclass(item)
        and issubclass(item, Pass)
        and item.__module__ == module.__name__
        and not inspect.isabstract(item)
    ]
    if not classes:
        raise OptionError(
            f"plugin {module.__name__} defines no pass",
            "define a Pass class, or a list `passes` of passes and functions",
        )
    return [_as_pass(c) for c in classes]
