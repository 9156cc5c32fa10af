"""Driving an arm by hand: devices, what their axes mean, and what they ask of a robot."""
