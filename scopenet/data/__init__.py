"""Data sets, from files to batches.

A COCO json of any origin is read and cleaned (:mod:`.coco_json`) by one process for all of its
machine (:mod:`.labels`, :mod:`.shared_labels`), registered as data of one's own (:mod:`.custom`),
and read in batches that a seed decides on (:mod:`.loader`), without what cannot be trained on
(:mod:`.unusable`). :mod:`.check` says before a training what is wrong with a json; :mod:`.convert`
makes one of YOLO or Pascal VOC labels. The data sets that come with the project are in
:mod:`.builtin`; :mod:`.digits` draws one of them.
"""
