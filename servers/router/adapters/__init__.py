"""The providers, each speaking its own dialect over one shared HTTP transport."""
