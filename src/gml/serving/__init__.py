"""Models that answer requests: the scoring protocol, its server, batches of files, images."""
