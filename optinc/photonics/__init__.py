"""Mach-Zehnder interferometers (MZIs): their meshes, phases and area, without any gradients."""
