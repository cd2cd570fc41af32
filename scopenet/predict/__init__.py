"""A trained detector on photographs, videos and a web page; large images are looked at by tiles."""
