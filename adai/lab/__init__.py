"""Optimizers compared on models and data."""
