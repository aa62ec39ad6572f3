"""What a run is: ids, values, events, their fold, and the one error root. Standard library only."""
