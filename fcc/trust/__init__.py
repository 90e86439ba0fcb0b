"""Trust: who is to blame for a wrong, crashing or slow output, and whether a file is what fcc makes of its source."""

from .bisection import Bisection, bisect

__all__ = ["Bisection", "bisect"]
