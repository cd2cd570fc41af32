"""Parameters that are not trained, chosen by their names."""

import difflib
import logging
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from ..errors import ConfigError
from ..modeling.folding import frozen_norm


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Take the parameters whose names match one of ``patterns`` (``*`` and ``?`` as in file names)
    out of training. A batch normalization whose parameters all are no longer moves its statistics
    either; names in checkpoints stay as they are.

    Raises:
        ConfigError: a pattern matches nothing, or nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(
                f"MODEL.FREEZE (LazyConfig: train.freeze): no parameter is called {pattern}"
                + _near(pattern, model)
            )
    frozen = [x for x in names if any(fnmatchcase(x, pattern) for pattern in patterns)]
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    if not any(x.requires_grad for x in model.parameters()):
        raise ConfigError("MODEL.FREEZE leaves nothing to train; name fewer parameters.")
    for name, module in [*model.named_modules()]:
        owned = [*module.parameters(recurse=False)]
        if owned and not any(x.requires_grad for x in owned):
            model.set_submodule(name, frozen_norm(module))
    if frozen:
        logging.getLogger(__name__).info(
            f"MODEL.FREEZE: {len(frozen)} of {len(names)} parameters are not trained, from "
            f"{frozen[0]} to {frozen[-1]}."
        )


def _near(pattern: str, model: nn.Module) -> str:
    parameters = [name for name, _ in model.named_parameters()]
    modules = [f"{name}.*" for name, _ in model.named_modules() if name]
    close = difflib.get_close_matches(pattern, modules + parameters, n=3, cutoff=0.6)
    return f"; near are {', '.join(close)}." if close else f"; the first is {parameters[0]}."
