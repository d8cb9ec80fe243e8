"""Gradients of N servers -> one gradient."""
