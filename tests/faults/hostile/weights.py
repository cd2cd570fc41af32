"""What the three kinds of files of weights have in common: how the project reads them."""

import copy
from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from scopenet.engine.checkpoint import SafeCheckpointer


class Weights:
    """Reads files by ``parse``, and lets a copy of ``model`` take its weights from them."""

    model: nn.Module
    parse: Callable[[str], dict]

    def load(self, path: Path) -> tuple[dict, dict[str, Tensor]]:
        loaded = type(self).parse(str(path))
        model = copy.deepcopy(self.model)
        SafeCheckpointer(model).load(str(path), checkpointables=[])
        return loaded, model.state_dict()

    def check_model(self, state: dict[str, Tensor]) -> None:
        """Each weight has its own shape and type."""
        for name, x in self.model.state_dict().items():
            assert state[name].shape == x.shape and state[name].dtype == x.dtype
