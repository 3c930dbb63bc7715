"""How a database that is an agent's alone is reached, and with which model texts get vectors."""

from servers.domain.chat import ModelRef
from servers.kernel.fields import Count, Secret
from servers.kernel.manifest import Strict


class Connection(Strict):
    url: Secret = ""
    host: str = ""
    port: Count | None = None
    database: str = ""
    user: str = ""
    password: Secret = ""


class Embeddings(Strict):
    """Without a provider: the model that is in the mesh."""

    provider: str = ""
    model: str = ""
    endpoint: str = ""
    api_key_env: str = ""

    def candidates(self) -> tuple[ModelRef, ...]:
        if not self.provider:
            return ()
        return (ModelRef(self.provider, self.model, self.endpoint, self.api_key_env),)
