"""Models of runs: logged, found by their URI, loaded."""
