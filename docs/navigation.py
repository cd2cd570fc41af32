"""Orders the site's pages as docs/README.md lists them (mkdocs.yml)."""

import re


def on_nav(nav, config, files):
    """Sort the section of the pages; one that the list leaves out is an error."""
    index = files.get_file_from_path("docs/README.md").page
    listed = re.findall(r"\]\((\w+\.md)\)", index.file.content_string)
    index.parent.children.sort(key=lambda x: ["README.md", *listed].index(x.file.src_uri[5:]))
