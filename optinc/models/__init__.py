"""LightningModules: ResNet on images, a LLaMA-style decoder on text."""
