"""What is wrong with a data set in COCO format, before a training finds out.

:mod:`.annotations` looks at the json, :mod:`.images` at the files, :mod:`.borders` at how the boxes
fit the levels and bins of a model; :mod:`.command` puts it together.
"""
