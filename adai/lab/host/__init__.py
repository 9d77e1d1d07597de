"""What a run is done on: device, processes, random generators, and the boundary to others' code."""
