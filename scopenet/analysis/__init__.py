"""What a trained detector does well and badly, as one HTML page.

:mod:`.run` runs a detector over a labelled data set (:mod:`.dataset`); what comes out are tables
(pandas). Each question of the page has one module, which measures and shows; :mod:`.report` puts
the page together, :mod:`.page` writes it.

Tables that many modules share:

- ground truth, one row per box: ``id`` (from 1), ``image``, ``label``, ``x0 y0 x1 y1``, ``area``,
  ``aspect`` (width over height), ``iscrowd``;
- detections, one row each, best first within an image: ``image``, ``label``, ``score``,
  ``x0 y0 x1 y1``, ``area``, ``aspect``; of a ScopeNet also ``p_cls``, ``p_loc``, ``p_box`` and
  ``p_l p_t p_r p_b``, the confidence of each border;
- borders and positives, of a ScopeNet with bins: see :func:`.borders.border_tables`.

``image`` is COCO's image id, ``label`` counts from 0, boxes are in px of the image file.
"""
