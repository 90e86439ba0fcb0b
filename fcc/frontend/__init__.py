"""Loading: any source of a model to one normalized Module."""

from .load import read

__all__ = ["read"]
