"""One module for each result: ``python -m experiments.<name>``."""
