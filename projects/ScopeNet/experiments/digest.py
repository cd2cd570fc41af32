"""What tells trainings apart: configs that differ at inference only share one, per seed."""

import hashlib
from functools import lru_cache
from pathlib import Path

from detectron2.config import CfgNode

from scopenet.config_file import leaves

# Keys that do not change what is trained, and those that count otherwise: the weights by their
# contents, the seed by the name of its folder.
_NOT_TRAINED = {
    "MODEL.SCOPENET.GUIDED_SCORE",
    "MODEL.WEIGHTS",
    "SEED",
    "MODEL.DEVICE",
    "DATASETS.TEST",
    "DATALOADER.NUM_WORKERS",
    "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.MAX_SKIPPED_ITERATIONS",
    "OUTPUT_DIR",
    "TRACKERS",
    "VIS_PERIOD",
}


def is_trained(key: str) -> bool:
    """Tell whether a config key has an influence on what is trained."""
    return not (key in _NOT_TRAINED or key.startswith("TEST.") or key.endswith("_TEST"))


@lru_cache
def weights_digest(weights: str) -> str:
    """Digest the contents of a file of weights; of an address, the address itself."""
    path = Path(weights)
    return hashlib.sha256(path.read_bytes() if path.is_file() else weights.encode()).hexdigest()


def digest(cfg: CfgNode, model_text: str = "") -> str:
    """Digest everything but the seed that decides what is trained.

    Args:
        model_text: the model, where ``cfg`` does not describe it.
    """
    values = [(key, value) for key, value in leaves(cfg) if is_trained(key)]
    text = f"{sorted(values)}{model_text}{weights_digest(cfg.MODEL.WEIGHTS)}"
    return hashlib.sha256(text.encode()).hexdigest()[:10]
