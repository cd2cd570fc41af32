"""What is wrong with a data set in COCO format, before a training finds out.

:mod:`.findings` looks at the json and at its files, :mod:`.borders` at how the boxes fit the levels
and bins of a model, :mod:`.pictures` draws; :mod:`.command` puts it together.
"""
