"""The Astromesh mesh: every service, sliced by service, and the root that wires them."""
