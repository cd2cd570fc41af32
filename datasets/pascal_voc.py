"""Read Pascal VOC annotations, as the sources of Trees, Cards and Cells have them."""

from xml.etree import ElementTree

import numpy as np


def read_objects(xml: bytes) -> tuple[list[str], np.ndarray]:
    """Read the class names and the boxes (M, 4), XYXY in px, of an annotation's objects."""
    corners = ("xmin", "ymin", "xmax", "ymax")
    objects = list(ElementTree.fromstring(xml).iter("object"))
    boxes = [[int(x.findtext(f"bndbox/{name}")) for name in corners] for x in objects]
    return [x.findtext("name") for x in objects], np.array(boxes, int).reshape(-1, 4)
