"""The engines: several implementations of the rule with the same interface."""
