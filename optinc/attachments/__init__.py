"""Reducers attached to models that train without Lightning."""
