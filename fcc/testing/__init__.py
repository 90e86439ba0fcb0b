"""For authors of passes: ``check`` one rewrite, text in, text out; ``vary`` a graph and judge every instance."""

from .checks import check
from .compare import TOLERANCE, same_outputs
from .differential import Tally, vary
from .texts import HEADER, model_from, random_array
from .texts import model_from as _model  # noqa: F401  (the name that tests used)

__all__ = ["HEADER", "TOLERANCE", "Tally", "check", "model_from", "random_array", "same_outputs", "vary"]
