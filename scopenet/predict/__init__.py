"""A trained detector on photographs, videos and a web page.

:mod:`.command` runs it on files, :mod:`.web` in a browser. :mod:`.tiles` cuts large images up and
:mod:`.merging` puts together what is found in the tiles; :mod:`.pictures` draws the detections and
:mod:`.results` writes them as JSON.
"""
