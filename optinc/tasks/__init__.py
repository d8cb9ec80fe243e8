"""The tasks of ``run.py``: each takes the configuration and returns its summary and objects."""
