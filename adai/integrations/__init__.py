"""Adai in other libraries that choose optimizers by name. Each module needs the library that it is named after."""
