"""Environments as functions over tensors."""
