"""Passwords, tokens, helpers: what is sent where, and what an error says."""

from __future__ import annotations

import asyncio
import base64
import os
import pathlib
import stat
from dataclasses import replace

import pytest

from pybuild.errors import AuthError, PybuildError, RegistryError
from pybuild.oci.reference import Reference
from pybuild.registry.client import Registries

from .conftest import PASSWORD, USER, Tokened
from .support import (
    AMD64,
    QUICK,
    SampleImage,
    Served,
    auth_entry,
    clean_environment,
    push_sample,
    sample_image,
    write_docker_config,
)

pytestmark = pytest.mark.registry


def push_and_pull(reference: Reference, image: SampleImage, env: dict[str, str]) -> None:
    async def run() -> None:
        async with Registries(QUICK, lambda e: None, env) as registries:
            await registries.check_push(reference)
            await push_sample(registries, reference, image)
            assert (await registries.resolve(reference, AMD64)).digest == image.digest

    asyncio.run(run())


def without_secrets(error: BaseException, *secrets: str) -> str:
    """The text of an error, of its causes and of its attributes; no secret is in it in any spelling."""
    text = ""
    found: BaseException | None = error
    while found is not None:
        text += f"{found} {found!r} {found.__dict__} "
        found = found.__cause__ or found.__context__
    for secret in secrets:
        for spelling in (secret, base64.b64encode(secret.encode()).decode().rstrip("="), base64.b64encode(f"{USER}:{secret}".encode()).decode()):
            assert spelling not in text
    return str(error)


def helper(directory: pathlib.Path, name: str, script: str) -> str:
    """A credential helper; a PATH that has it."""
    directory.mkdir(exist_ok=True)
    path = directory / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return f"{directory}:{os.environ['PATH']}"


def test_user_and_password_from_the_configuration(with_passwords: Served, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    env = write_docker_config(tmp_path / "docker", {"auths": {with_passwords.host: auth_entry(USER, PASSWORD)}})
    push_and_pull(with_passwords.reference("basic/auth:1"), sample_image([1000]), clean_environment(home, **env))


@pytest.mark.parametrize("key", ["https://{host}", "https://{host}/v1/", "{host}/scoped", "{host}/scoped/path"])
def test_keys_of_an_entry(with_passwords: Served, home: pathlib.Path, tmp_path: pathlib.Path, key: str) -> None:
    auths = {key.format(host=with_passwords.host): auth_entry(USER, PASSWORD), "other.example": auth_entry("x", "y")}
    env = write_docker_config(tmp_path / "docker", {"auths": auths})
    push_and_pull(with_passwords.reference("scoped/path:1"), sample_image([1000]), clean_environment(home, **env))


def test_narrow_entry_is_for_its_path_only(with_passwords: Served, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    env = write_docker_config(tmp_path / "docker", {"auths": {f"{with_passwords.host}/team": auth_entry(USER, PASSWORD)}})
    with pytest.raises(AuthError):
        push_and_pull(with_passwords.reference("teams/app:1"), sample_image([1000]), clean_environment(home, **env))


def test_wrong_password(with_passwords: Served, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    env = write_docker_config(tmp_path / "docker", {"auths": {with_passwords.host: auth_entry(USER, "s3cret-and-wrong")}})
    with pytest.raises(AuthError) as caught:
        push_and_pull(with_passwords.reference("basic/auth:1"), sample_image([1000]), clean_environment(home, **env))
    text = without_secrets(caught.value, "s3cret-and-wrong")
    assert with_passwords.host in text
    assert f"the credentials are from the entry {with_passwords.host} in {tmp_path}/docker/config.json" in text
    assert "unauthorized" in text


def test_no_password(with_passwords: Served, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(AuthError, match=r"wants a user and password") as caught:
        push_and_pull(with_passwords.reference("basic/auth:1"), sample_image([1000]), clean_environment(home))
    assert f"there is none of /kaniko/.docker/config.json, {home}/.docker/config.json" in str(caught.value)
    env = write_docker_config(tmp_path / "docker", {"auths": {"other.example": auth_entry(USER, PASSWORD)}})
    with pytest.raises(AuthError, match=rf"no credentials for it in {tmp_path}/docker/config\.json"):
        push_and_pull(with_passwords.reference("basic/auth:1"), sample_image([1000]), clean_environment(home, **env))


def test_credential_helper_gets_the_host_and_no_shell(with_passwords: Served, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    script = f'printf "%s " "$@" >> "{tmp_path}/asked"; cat >> "{tmp_path}/asked"; printf \'{{"Username":"{USER}","Secret":"{PASSWORD}"}}\''
    path = helper(tmp_path / "bin", "mine", script)
    for number, document in enumerate(({"credHelpers": {with_passwords.host: "mine"}}, {"credsStore": "mine"})):
        env = write_docker_config(tmp_path / f"docker{number}", document)
        push_and_pull(with_passwords.reference("helper/app:1"), sample_image([1000]), {**clean_environment(home, **env), "PATH": path})
    # once for each client, however many requests it made
    assert (tmp_path / "asked").read_text() == f"get {with_passwords.host}" * 2
    assert not (tmp_path / "injected").exists()
    env = write_docker_config(tmp_path / "docker", {"credsStore": f"mine; touch {tmp_path}/injected"})
    with pytest.raises(AuthError):
        push_and_pull(with_passwords.reference("helper/app:1"), sample_image([1000]), {**clean_environment(home, **env), "PATH": path})
    assert not (tmp_path / "injected").exists()


def test_failing_helper_is_named_and_its_words_are_not_told(with_passwords: Served, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path = helper(tmp_path / "bin", "bad", "echo 'token s3cret-of-helper expired' >&2; exit 3")
    env = write_docker_config(tmp_path / "docker", {"credsStore": "bad"})
    with pytest.raises(AuthError, match=r"docker-credential-bad .* failed with status 3") as caught:
        push_and_pull(with_passwords.reference("helper/app:1"), sample_image([1000]), {**clean_environment(home, **env), "PATH": path})
    without_secrets(caught.value, "s3cret-of-helper")
    # an entry of the file helps out
    env = write_docker_config(tmp_path / "docker", {"credsStore": "bad", "auths": {with_passwords.host: auth_entry(USER, PASSWORD)}})
    push_and_pull(with_passwords.reference("helper/app:1"), sample_image([1000]), {**clean_environment(home, **env), "PATH": path})


def test_broken_configuration_matters_only_where_credentials_are_wanted(
    plain: Served, with_passwords: Served, home: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text('{"auths": {"x": {"auth": "s3cret"}}')
    env = clean_environment(home, DOCKER_CONFIG=str(tmp_path / "docker"))
    push_and_pull(plain.reference("broken/config:1"), sample_image([1000]), env)
    with pytest.raises(AuthError, match=rf"{tmp_path}/docker/config\.json is no JSON") as caught:
        push_and_pull(with_passwords.reference("broken/config:1"), sample_image([1000]), env)
    without_secrets(caught.value, "s3cret")


@pytest.mark.parametrize("kind", ["password", "identity", "identity without oauth", "variable", "gitlab"])
def test_token_service(with_tokens: Tokened, home: pathlib.Path, tmp_path: pathlib.Path, kind: str) -> None:
    host = with_tokens.registry.host
    env: dict[str, str] = {}
    if kind == "password":
        env = write_docker_config(tmp_path / "docker", {"auths": {host: auth_entry(USER, PASSWORD)}})
    elif kind == "variable":
        env = {"KANIKO_127_0_0_1_USER": USER, "KANIKO_127_0_0_1_PASSWORD": PASSWORD}
    elif kind == "gitlab":
        env = {"CI_REGISTRY": host, "CI_REGISTRY_USER": USER, "CI_REGISTRY_PASSWORD": PASSWORD}
    else:
        with_tokens.service.identity_tokens.add("long-lived")
        with_tokens.service.oauth = kind == "identity"
        env = write_docker_config(tmp_path / "docker", {"auths": {host: {"identitytoken": "long-lived"}}})
    push_and_pull(with_tokens.registry.reference("team/app:1"), sample_image([100_000, 10]), clean_environment(home, **env))
    asked = [(r["method"], tuple(r["scopes"])) for r in with_tokens.service.requests]
    method = "POST" if kind == "identity" else "GET"
    # one token for pushing and one for pulling, however many requests there were
    wanted = [(method, ("repository:team/app:pull,push",)), (method, ("repository:team/app:pull",))]
    assert [a for a in asked if not (kind == "identity without oauth" and a[0] == "POST")] == wanted


def test_registry_token_is_used_as_it_is(with_tokens: Tokened, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    token = with_tokens.service.token(USER, ["repository:team/app:pull,push"])
    env = write_docker_config(tmp_path / "docker", {"auths": {with_tokens.registry.host: {"registrytoken": token}}})
    push_and_pull(with_tokens.registry.reference("team/app:1"), sample_image([1000]), clean_environment(home, **env))
    assert with_tokens.service.requests == []


def test_anonymous_token_pulls_what_is_public(with_tokens: Tokened, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    reference = with_tokens.registry.reference("public/app:1")
    env = write_docker_config(tmp_path / "docker", {"auths": {with_tokens.registry.host: auth_entry(USER, PASSWORD)}})
    image = sample_image([1000])
    push_and_pull(reference, image, clean_environment(home, **env))
    with_tokens.service.public.add("public/app")

    async def run() -> None:
        async with Registries(QUICK, lambda e: None, clean_environment(home)) as registries:
            assert (await registries.resolve(reference, AMD64)).digest == image.digest
            with pytest.raises(AuthError, match=r"denied POST for public/app: status 401: UNAUTHORIZED .*no credentials: there is none of"):
                await registries.check_push(reference)

    asyncio.run(run())
    assert with_tokens.service.requests[-1]["authorization"] is None


def test_token_service_refuses(with_tokens: Tokened, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    env = write_docker_config(tmp_path / "docker", {"auths": {with_tokens.registry.host: auth_entry(USER, "s3cret-and-wrong")}})
    with pytest.raises(AuthError, match="refused a token with status 401") as caught:
        push_and_pull(with_tokens.registry.reference("team/app:1"), sample_image([1000]), clean_environment(home, **env))
    text = without_secrets(caught.value, "s3cret-and-wrong")
    assert with_tokens.registry.host in text
    assert f"{tmp_path}/docker/config.json" in text
    # a wrong password is not tried over and over: accounts get locked for that
    assert len(with_tokens.service.requests) == 1


def test_token_that_ended_is_renewed(with_tokens: Tokened, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    # the registry allows a minute of skew: a token that ended longer ago is refused though the client thinks that it is good
    with_tokens.service.expires_in = -120
    env = write_docker_config(tmp_path / "docker", {"auths": {with_tokens.registry.host: auth_entry(USER, PASSWORD)}})
    reference = with_tokens.registry.reference("team/app:1")
    image = sample_image([1000])

    async def run() -> None:
        async with Registries(QUICK, lambda e: None, clean_environment(home, **env)) as registries:
            with pytest.raises(AuthError):
                await registries.check_push(reference)
            with_tokens.service.expires_in = 300
            await push_sample(registries, reference, image)

    asyncio.run(run())
    assert with_tokens.registry.get("/v2/")[0] == 401


def test_mount_asks_for_both_repositories(with_tokens: Tokened, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    env = write_docker_config(tmp_path / "docker", {"auths": {with_tokens.registry.host: auth_entry(USER, PASSWORD)}})
    source, target = with_tokens.registry.reference("team/base:1"), with_tokens.registry.reference("team/app:1")
    image = sample_image([1000])

    async def run() -> None:
        async with Registries(QUICK, lambda e: None, clean_environment(home, **env)) as registries:
            await push_sample(registries, source, image)
            assert await registries.mount_blob(target, image.layers[0], [source])

    asyncio.run(run())
    assert with_tokens.service.requests[-1]["scopes"] == ["repository:team/app:pull,push", "repository:team/base:pull"]


def test_unreachable_token_service(with_tokens: Tokened, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with_tokens.service.expires_in = 300
    env = write_docker_config(tmp_path / "docker", {"auths": {with_tokens.registry.host: auth_entry(USER, PASSWORD)}})

    class Broken(dict[str, str]):
        def get(self, *_: object) -> str:  # type: ignore[override]
            raise RuntimeError("the service has a fault")

    with_tokens.service.users = Broken()
    with pytest.raises(PybuildError) as caught:
        push_and_pull(with_tokens.registry.reference("team/app:1"), sample_image([1000]), clean_environment(home, **env))
    assert isinstance(caught.value, RegistryError)
    without_secrets(caught.value, PASSWORD)


def test_objects_do_not_show_what_they_hold() -> None:
    from pybuild.registry.credentials import Credentials

    found = replace(Credentials("u", "s3cret", "t0ken", "r3gistry"), source="a file")
    assert not any(secret in repr(found) + str(found) for secret in ("s3cret", "t0ken", "r3gistry"))
