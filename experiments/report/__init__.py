"""One HTML page of all results: ``python -m experiments.report``."""
