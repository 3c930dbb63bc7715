"""The provider types and strategies that a manifest may name, and their adapters."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import urlsplit

from servers.kernel.errors import InvalidInput
from servers.kernel.explain import nearest
from servers.kernel.registry import Registry

PROVIDERS = Registry(
    "astromesh.providers",
    extras={"local": "local", "triton": "triton"},
    openai_compat="servers.router.adapters.openai.compat:OpenAICompat",
    openai="servers.router.adapters.openai.compat:OpenAI",
    azure_openai="servers.router.adapters.openai.azure:AzureOpenAI",
    vllm="servers.router.adapters.openai.vllm:Vllm",
    llamacpp="servers.router.adapters.openai.llamacpp:LlamaCpp",
    hf_tgi="servers.router.adapters.openai.hf_tgi:HfTgi",
    ollama="servers.router.adapters.ollama.provider:Ollama",
    local="servers.router.adapters.local.provider:Local",
    tei="servers.router.adapters.texts.tei:TextEmbeddingsInference",
    cohere="servers.router.adapters.texts.cohere:Cohere",
    triton="servers.router.adapters.triton.provider:Triton",
    onnx_embeddings="servers.router.adapters.encoders.onnx_embeddings:OnnxEmbeddings",
    onnx_cross_encoder="servers.router.adapters.encoders.onnx_cross_encoder:OnnxCrossEncoder",
    sentence_transformers="servers.router.adapters.encoders.torch_encoders:SentenceTransformers",
    onnx="servers.router.adapters.genai.chat:OnnxChat",
    onnxruntime="servers.router.adapters.genai.chat:OnnxChat",
)

IN_ORDER = "in_order"
STRATEGIES = (
    IN_ORDER,
    "cost_optimized",
    "latency_optimized",
    "quality_first",
    "round_robin",
    "capability_match",
)


# A type of value, the words that there are, or the whole numbers.
OptionShape: TypeAlias = type | tuple[str, ...] | range


@dataclass(frozen=True, slots=True)
class Kind:
    """What holds for a provider type where a manifest is silent, and what it can do."""

    endpoint: str = ""  # empty: the manifest must say
    api_key_env: str = ""
    model: str = ""
    does: frozenset[str] = frozenset({"chat"})  # chat, embed, rerank, count
    options: Mapping[str, OptionShape] = field(default_factory=dict)  # what `options` may hold
    schemes: tuple[str, ...] = ("http", "https")  # of its endpoint; none: any text will do
    folder: bool = False  # its endpoint is a folder of this machine: only configuration may name it
    free: bool = False  # it runs on this machine and costs nothing


_TALKS = frozenset({"chat", "embed"})
_TEXTS = frozenset({"embed", "rerank"})
_COUNTS = frozenset({"chat", "count"})
_TRITON = (
    *("input", "output", "query_input", "document_input"),  # names of tensors
    *("chat_template", "bos_token", "eos_token"),
    *("ca_file", "cert_file", "key_file"),
)
_TRUNCATE = {"truncate": bool}  # whether texts that are too long are cut
_ENCODER: Mapping[str, OptionShape] = {
    **_TRUNCATE,
    "max_tokens": range(8, 1_000_001),
    "device": ("auto", "cpu", "cuda"),
    "threads": range(1, 1025),
    "max_batch": range(1, 4097),
    "max_waiting": range(1, 1_000_001),
}
_EMBEDDER: Mapping[str, OptionShape] = {"query_prefix": str, "document_prefix": str, **_ENCODER}
_ONNX = Kind(
    model="onnx",
    does=_COUNTS,
    options={
        "device": ("auto", "cpu", "cuda"),
        "parallel": range(1, 257),
        "max_waiting": range(1_000_001),
        "threads": range(1, 1025),
    },
    folder=True,
    free=True,
)

_KINDS = {
    "openai": Kind("https://api.openai.com/v1", "OPENAI_API_KEY", does=_TALKS),
    "openai_compat": Kind(does=_TALKS),
    "azure_openai": Kind(
        api_key_env="AZURE_OPENAI_API_KEY", does=_TALKS, options={"api_version": str}
    ),
    "vllm": Kind("http://127.0.0.1:8000/v1", does=_TALKS | _COUNTS | _TEXTS),
    "llamacpp": Kind(does=_TALKS | _COUNTS | _TEXTS),  # its own default port is that of our Envoy
    "hf_tgi": Kind(does=_COUNTS),
    "ollama": Kind("http://127.0.0.1:11434", does=_TALKS, options=_TRUNCATE),
    "local": Kind("local:", model="smollm2-135m-instruct", does=_COUNTS, schemes=(), free=True),
    "tei": Kind(does=_TEXTS, options=_TRUNCATE),
    "cohere": Kind("https://api.cohere.com", "COHERE_API_KEY", does=_TEXTS, options=_TRUNCATE),
    "triton": Kind(
        "grpc://127.0.0.1:8001",
        does=_TALKS | _TEXTS,
        options=dict.fromkeys(_TRITON, str),
        schemes=("grpc", "grpcs"),
    ),
    "onnx_embeddings": Kind(
        "packaged:",
        model="all-minilm-l6-v2",
        does=_TEXTS,
        options={"pooling": ("mean", "cls", "last"), **_EMBEDDER},
        folder=True,
        free=True,
    ),
    "onnx_cross_encoder": Kind(
        does=frozenset({"rerank"}),
        options={"activation": ("none", "sigmoid"), **_ENCODER},
        folder=True,
        free=True,
    ),
    "sentence_transformers": Kind(does=_TEXTS, options=_EMBEDDER, folder=True, free=True),
    "onnx": _ONNX,
    "onnxruntime": _ONNX,
}


def kind(name: str) -> Kind:
    """Defaults of a type; a plugin's type has none."""
    return _KINDS.get(name) or Kind(schemes=())


def check_endpoint(name: str, endpoint: str) -> None:
    """Raises InvalidInput for what can't be the address of a provider of that type."""
    known = kind(name)
    if known.folder or not known.schemes or not endpoint:
        return
    scheme, found, rest = endpoint.partition("://")
    host = urlsplit("//" + rest).hostname if found else None
    if scheme not in known.schemes or not host:
        wanted = " or ".join(f"{each}://" for each in known.schemes)
        raise InvalidInput(
            f"{endpoint!r} is no address of a provider of type {name!r}: it needs {wanted} "
            "and a host",
            reason="ENDPOINT_WRONG",
        )


def check_strategy(name: str) -> None:
    """Raises InvalidInput for a strategy that there is not. Empty: in order."""
    if name and name not in STRATEGIES:
        raise InvalidInput(f"no strategy {name!r}{nearest(name, list(STRATEGIES))}", strategy=name)
