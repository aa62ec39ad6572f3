"""`gml.autolog()`: training of common frameworks logs itself."""
