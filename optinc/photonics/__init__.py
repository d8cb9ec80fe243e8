"""Light, not gradients: Mach-Zehnder interferometers, meshes and their area."""
