"""Crashes, lost power, failing and vanishing disks at every step of the protocols that move and publish weights."""
