"""What a trained detector does well and badly, as one HTML page.

From the inside out: a detector is run over a labelled data set (:mod:`.detector`, :mod:`.run`);
what comes out are tables (pandas), which the modules of this package measure and those of
:mod:`.sections` show; :mod:`.page` writes the file. :func:`scopenet.analysis.command.analyze` does all
of it.

Tables that many modules share:

- ground truth, one row per box: ``id`` (from 1), ``image``, ``label``, ``x0 y0 x1 y1``, ``area``,
  ``aspect`` (width over height), ``iscrowd``;
- detections, one row each, best first within an image: ``image``, ``label``, ``score``,
  ``x0 y0 x1 y1``, ``area``, ``aspect``; of a ScopeNet also ``p_cls``, ``p_loc``, ``p_box`` and
  ``p_l p_t p_r p_b``, the confidence of each border;
- borders and positives, of a ScopeNet with bins: see :mod:`.borders`.

``image`` is COCO's image id, ``label`` counts from 0, boxes are in px of the image file.
"""

from importlib.util import find_spec

_missing = [name for name in ("jinja2", "pandas", "scipy") if not find_spec(name)]
if _missing:
    raise ImportError(f'scopenet.analysis needs {_missing}; pip install "scopenet[analysis]"')
