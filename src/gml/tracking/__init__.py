"""Run life cycle, journal, fluent API."""
