"""What gml notes about a run without being asked: one module a concern, each independent.

Nothing here raises because of the machine it runs on: a part that cannot be found out is reported
as `{"error": "..."}` in its own place.
"""
