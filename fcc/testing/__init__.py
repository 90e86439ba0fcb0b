"""For authors of passes: ``check`` one rewrite, text in, text out; ``vary`` a graph and judge every instance."""

from .checks import check
from .compare import TOLERANCE, random_input, same_outputs
from .differential import Tally, vary
from .texts import HEADER, model_from, random_array

__all__ = [
    "HEADER",
    "TOLERANCE",
    "Tally",
    "check",
    "model_from",
    "random_array",
    "random_input",
    "same_outputs",
    "vary",
]
