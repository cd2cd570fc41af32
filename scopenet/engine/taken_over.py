"""What a new training takes over from weights of another model, and what it does not, in words."""

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any

# By the first letters of the names of ScopeNet's weights, those of Detectron2's RetinaNet among
# them; other names are told as they are.
PARTS = {
    "backbone.bottom_up.": "backbone",
    "backbone.": "pyramid",
    "head.cls_subnet.": "class tower",
    "head.cls_score.": "class scores",
    "head.loc_subnet.": "localization tower",
    "head.bin_score.": "bin scores",
    "head.border_pred.": "border deltas",
    "log2_anchor_offset": "anchors",
    "error_weights": "errors of borders",
}
TOWER = "head.cls_subnet."


def part_of(name: str) -> str:
    """Name the part of a model that a weight belongs to."""
    found = (part for prefix, part in PARTS.items() if name.startswith(prefix))
    return next(found, ".".join(name.split(".")[:2]))


def drop_other_tower(weights: dict[str, Any], names: Iterable[str]) -> None:
    """Take the class tower out of weights whose layers do not count as those of the model's
    ``names`` do: with normalization the second convolution is the fourth layer, and not the third.
    """
    ours, theirs = ({x for x in keys if x.startswith(TOWER)} for keys in (names, weights))
    if not (ours <= theirs or theirs <= ours):
        for name in theirs:
            del weights[name]
        logging.getLogger(__name__).warning(
            "The class tower of the weights has other layers than this model's, as with and "
            "without MODEL.SCOPENET.NORM: it starts anew."
        )


def report_taken_over(names: Iterable[str], unset: Iterable[str]) -> None:
    """Log which parts of a model with these ``names`` were loaded, unless all were.

    Args:
        unset: names that the weights do not have, or with another shape.
    """
    all_of = Counter(part_of(x) for x in names if not x.startswith("pixel_"))
    new = Counter(part_of(x) for x in {*unset} if not x.startswith("pixel_"))
    if not new:
        return
    parts = sorted(all_of, key=lambda part: [*PARTS.values(), part].index(part))
    taken = [
        f"{part} ({all_of[part] - new[part]} of {all_of[part]} tensors)" if new[part] else part
        for part in parts
        if new[part] < all_of[part]
    ]
    fresh = [part for part in parts if new[part] == all_of[part]]
    logging.getLogger(__name__).info(
        f"Taken over from the weights: {', '.join(taken) or 'nothing'}; "
        f"new: {', '.join(fresh) or 'nothing else'}."
    )
