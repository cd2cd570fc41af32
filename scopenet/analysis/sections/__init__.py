"""The sections of the page, one module each, in the order in which they are read."""

from collections.abc import Callable

from ..page import Section
from ..study import Study
from . import anchors, bin_choice, errors, hedging, operating_point, pictures, scores, shapes

SECTIONS: list[Callable[[Study], Section]] = [
    shapes.section,
    scores.section,
    bin_choice.section,
    hedging.section,
    anchors.section,
    operating_point.section,
    errors.section,
    pictures.section,
]
