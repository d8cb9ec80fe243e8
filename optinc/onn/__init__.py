"""The optical neural network f of a switch (Sec. III): structure, data set, evaluation, storage.

``construction`` builds exact ONNs without training, ``training`` trains them (eq. 7), and ``zoo``
holds the shipped ones.
"""
