"""What is measured of a net: derivatives of its loss, flatness, gradient noise, stability."""
