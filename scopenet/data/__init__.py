"""Data sets, from files to batches.

A COCO json of any origin is read and cleaned (:mod:`.coco_json`), registered as data of one's own
(:mod:`.custom`), and read in batches that a seed decides on (:mod:`.loader`): without unusable
boxes (:mod:`.usable_boxes`) and despite unreadable images (:mod:`.unreadable`). :mod:`.check` says
before a training what is wrong with a json; :mod:`.convert` makes one of YOLO or Pascal VOC labels.
Data sets that come with the project are written by :mod:`.coco_split` (:mod:`.digits`) and
registered by :mod:`.builtin`.
"""
