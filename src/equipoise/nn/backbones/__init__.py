"""Backbones: functions that return a trunk."""
