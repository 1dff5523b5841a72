"""Sets of a user: folders of images, described in YAML, or on the hub."""
