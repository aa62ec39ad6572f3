"""Conformance suites and failing fakes, shipped for whoever writes an adapter."""
