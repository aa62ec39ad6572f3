"""The artifact store seen from the runs: what needs what, what is damaged, what can go."""
