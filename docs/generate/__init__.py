"""Documents that are generated: one module each, a function that returns the whole text."""
