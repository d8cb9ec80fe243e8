"""Reducers that OptINC is compared with."""
