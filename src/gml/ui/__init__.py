"""Pages over a repository's runs: rendered on the server, read only, without any request to elsewhere."""
