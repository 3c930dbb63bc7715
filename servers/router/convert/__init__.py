"""The router's values between the wire and the domain. Total functions, no decisions, no I/O."""
