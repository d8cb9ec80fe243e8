"""Exact ONNs built from arithmetic instead of training, with 100 % accuracy by design.

``smallest`` needs the fewest interferometers, ``restoring`` tolerates noise, and ``in_structure``
fits a given structure such as Table I's, with chosen layers in Sigma U form (eq. 4). All divide the
total over the servers digit by digit (:mod:`.division`).
"""
