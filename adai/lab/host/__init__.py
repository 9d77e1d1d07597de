"""The host of a run: device, processes, random generators, and the boundary to the user's code."""
