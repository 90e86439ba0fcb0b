"""Trust: who is to blame for a wrong, crashing or slow output, and whether a file is what fcc makes of its source."""

from .bisection import bisect
from .subject import Bisection
from .verification import Verification, verify

__all__ = ["Bisection", "Verification", "bisect", "verify"]
