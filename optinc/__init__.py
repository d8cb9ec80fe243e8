"""OptINC: gradients averaged by light on their way through the network (arXiv:2603.28290)."""
