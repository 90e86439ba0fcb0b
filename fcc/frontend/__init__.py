"""Loading: any source of a model to one normalized Module."""

from fcc import ir as _ir  # isort: skip  # noqa: F401  (must come first: loads onnx_ir without sympy)

from .load import read

__all__ = ["read"]
