"""The small files that say what was built: their exact bytes."""

from __future__ import annotations

import os
import stat
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from pybuild.errors import OutputError
from pybuild.oci.reference import parse_reference
from pybuild.output.digest_files import put_digest, write_builder_output, write_digest_file, write_image_name_files

DIGEST = "sha256:" + "0123456789abcdef" * 4
DESTINATIONS = [parse_reference("localhost:5000/me/app:v1"), parse_reference("app")]


def test_the_digest_without_a_newline(tmp_path: Path) -> None:
    path = tmp_path / "new/digest"
    write_digest_file(str(path), DIGEST)
    assert path.read_bytes() == DIGEST.encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    write_digest_file(str(path), "short")
    assert path.read_bytes() == b"short"
    assert os.listdir(path.parent) == ["digest"]


def test_names_with_digests(tmp_path: Path) -> None:
    write_image_name_files(str(tmp_path / "names"), "", DESTINATIONS, DIGEST)
    assert (tmp_path / "names").read_text() == f"localhost:5000/me/app@{DIGEST}\nindex.docker.io/library/app@{DIGEST}\n"
    write_image_name_files("", str(tmp_path / "tags"), DESTINATIONS, DIGEST)
    with_tags = f"localhost:5000/me/app:v1@{DIGEST}\nindex.docker.io/library/app:latest@{DIGEST}\n"
    assert (tmp_path / "tags").read_text() == with_tags
    assert sorted(os.listdir(tmp_path)) == ["names", "tags"]


def test_both_files_have_the_tags_when_both_are_asked_for(tmp_path: Path) -> None:
    write_image_name_files(str(tmp_path / "names"), str(tmp_path / "tags"), DESTINATIONS, DIGEST)
    assert (tmp_path / "names").read_text() == (tmp_path / "tags").read_text()
    assert f":v1@{DIGEST}\n" in (tmp_path / "names").read_text()


def test_builder_output_is_a_json_line_each(tmp_path: Path) -> None:
    write_builder_output(str(tmp_path / "out"), DESTINATIONS, DIGEST)
    assert (tmp_path / "out/images").read_text() == (
        f'{{"name":"localhost:5000/me/app:v1","digest":"{DIGEST}"}}\n{{"name":"app:latest","digest":"{DIGEST}"}}\n'
    )


def test_links_and_pipes_are_written_to_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("a longer text than before")
    (tmp_path / "link").symlink_to("real")
    write_digest_file(str(tmp_path / "link"), "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    fd = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_digest_file(str(tmp_path / "pipe"), "new")
    assert os.read(fd, 100) == b"new"
    os.close(fd)


def test_a_failure_leaves_the_older_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(OSError):
        write_digest_file(str(tmp_path / "file/below"), DIGEST)
    with pytest.raises(UnicodeEncodeError):
        write_digest_file(str(tmp_path / "file"), "\udcff")
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("status", [200, 201, 403, 500])
def test_a_digest_is_put_to_a_server(status: int) -> None:
    seen: list[tuple[str, bytes]] = []

    class Answer(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            seen.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/put?signature=secret"
        if status < 400:
            put_digest(url, DIGEST)
        else:
            with pytest.raises(OutputError, match=str(status)) as caught:
                put_digest(url, DIGEST)
            assert "secret" not in str(caught.value)
        thread.join()
    assert seen == [("/put?signature=secret", DIGEST.encode())]


def test_a_server_that_is_not_there_is_told_without_the_secret() -> None:
    with pytest.raises(OutputError, match="localhost") as caught:
        write_digest_file("https://user:secret@localhost:1/put?signature=secret", DIGEST)
    assert "secret" not in f"{caught.value} {caught.value.hint}"
