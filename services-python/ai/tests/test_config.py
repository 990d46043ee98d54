"""Configuration: a bad value is an error that names the key, the value and what is allowed."""

from pathlib import Path

import pytest

from hybrid_ai.config import ConfigError, load

GOOD = {"SERVICE_SECRET": "s" * 32}
BAD = {
    "AI_LISTEN": ("8092", "host:port"),
    "AI_METRICS_LISTEN": ("127.0.0.1:99999", "host:port"),
    "AI_EMBED_THREADS": ("none", "whole number from 1 to 256"),
    "AI_EMBED_QUEUE": ("255", "from 256"),
    "AI_CHAT_CONTEXT": ("-1", "from 512 to 8192"),
    "AI_CHAT_LOAD": ("never", "lazy, background"),
    "AI_DOCUMENTS_DIR": ("/does/not/exist", "a folder"),
    "AI_OPENAI_BASE_URL": ("localhost:9", "http://"),
    "AI_EXTRACT_FETCH": ("yes", "off, on"),
    "AI_EXTRACT_FETCH_ALLOW": ("10.0.0.1/8", "networks, for example"),
    "AI_EXTRACT_MEGABYTES": ("255", "from 256"),
    "AI_PROCESSES": ("0", "from 1 to 64"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("localhost:4317", "http://"),
    "LOG_FORMAT": ("xml", "human, json"),
    "LOG_LEVEL": ("loud", "debug"),
}


@pytest.mark.parametrize("key", BAD)
def test_a_bad_value_is_named_with_what_is_allowed(key: str) -> None:
    value, allowed = BAD[key]
    with pytest.raises(ConfigError) as caught:
        load(GOOD | {key: value})
    assert key in str(caught.value) and repr(value) in str(caught.value) and allowed in str(caught.value)


def test_the_secret_is_needed_and_never_shown() -> None:
    with pytest.raises(ConfigError, match="SERVICE_SECRET"):
        load({})
    with pytest.raises(ConfigError) as caught:
        load({"SERVICE_SECRET": "short-secret"})
    assert "short-secret" not in str(caught.value)


def test_secrets_may_come_from_files(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("f" * 40 + "\n")
    assert load({"SERVICE_SECRET_FILE": str(file)}).secret == b"f" * 40
    with pytest.raises(ConfigError, match="both set"):
        load(GOOD | {"SERVICE_SECRET_FILE": str(file)})
    with pytest.raises(ConfigError, match="SERVICE_SECRET_FILE"):
        load({"SERVICE_SECRET_FILE": str(tmp_path / "none")})


def test_an_upstream_needs_a_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="AI_OPENAI_MODEL"):
        load(GOOD | {"AI_OPENAI_BASE_URL": "http://127.0.0.1:1/v1"})
    (upstream,) = load(GOOD | {"AI_OPENAI_BASE_URL": "http://127.0.0.1:1/v1/", "AI_OPENAI_MODEL": "m"}).upstreams
    assert upstream.base_url == "http://127.0.0.1:1/v1"


def test_upstreams_are_numbered_without_a_gap() -> None:
    def numbered(*names: str) -> dict[str, str]:
        return {f"{name}BASE_URL": "http://127.0.0.1:1/v1" for name in names} | {f"{name}MODEL": name for name in names}

    names = ["AI_OPENAI_", *(f"AI_OPENAI_{number}_" for number in range(2, 10))]
    assert [upstream.model for upstream in load(GOOD | numbered(*names)).upstreams] == names
    with pytest.raises(ConfigError, match="AI_OPENAI_2_BASE_URL"):
        load(GOOD | numbered("AI_OPENAI_", "AI_OPENAI_3_"))
    with pytest.raises(ConfigError, match="AI_OPENAI_BASE_URL"):
        load(GOOD | numbered("AI_OPENAI_2_"))
    for unknown in ("AI_OPENAI_1_", "AI_OPENAI_10_"):
        with pytest.raises(ConfigError, match=rf"{unknown}BASE_URL.*to AI_OPENAI_9_"):
            load(GOOD | numbered("AI_OPENAI_", unknown))
    with pytest.raises(ConfigError, match=r"AI_OPENAI_2_BASE_URL.*AI_OPENAI_2_API_KEY"):
        load(GOOD | numbered("AI_OPENAI_") | {"AI_OPENAI_2_API_KEY": "k"})


def test_no_documents_when_the_folder_is_set_but_empty() -> None:
    assert load(GOOD | {"AI_DOCUMENTS_DIR": ""}).documents_dir is None
    documents = load(GOOD).documents_dir
    assert documents is not None and (documents / "proto").is_dir()
