"""What ``run.py`` does: cfg -> (metrics, objects)."""
