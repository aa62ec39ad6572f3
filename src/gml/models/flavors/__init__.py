"""The flavors that gml ships, a module each; frameworks are imported when a flavor is used."""
