"""Calibration of drawn chips: settings with which imperfect parts do what ideal ones would."""
