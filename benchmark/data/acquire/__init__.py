"""Getting data: download, extraction, preparation, and the lists of their files."""
