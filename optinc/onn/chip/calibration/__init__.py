"""Calibration of drawn chips: settings that compensate for the errors of their parts."""
