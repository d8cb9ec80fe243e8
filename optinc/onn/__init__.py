"""The optical neural network f: structure, training, truth table, stored artefacts."""
