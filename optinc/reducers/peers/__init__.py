"""Ways to average gradients that OptINC is compared with."""
