"""What the configuration folder says: `load_config` reads it into one frozen MeshConfig."""

from servers.config.mesh import MeshConfig, load_config

__all__ = ["MeshConfig", "load_config"]
