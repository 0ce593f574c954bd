"""fetch_optimade asks a real database on this machine, and servers on this machine that misbehave."""

import builtins
import collections
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest

from crystalssl._optimade import structure_from_record
from crystalssl.datasets import _optimade, fetch_optimade
from crystalssl.exceptions import DatasetError, SkippedStructureWarning

from .records import BAD, GOOD, WORSE

pytest.importorskip("optimade.client", reason="needs crystalssl[optimade]", exc_type=ImportError)

N_GOOD = 35
ODD_ID = "a&b#c+d %"


def good(number):
    lattice = [[4.0 + number / 100, 0.0, 0.0], *GOOD["lattice_vectors"][1:]]
    return GOOD | {"lattice_vectors": lattice, "elements": ["Cl", "Cs"], "nelements": 2}


# ---------------------------------------------------------------------- a real database


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Address of the reference server with 35 crystals, one of an odd name, and all the bad records."""
    pytest.importorskip("mongomock", reason="needs optimade[server]")
    folder = tmp_path_factory.mktemp("database")
    records = {f"good-{number}": good(number) | {"band_gap": number / 10} for number in range(N_GOOD)}
    records["good-3"]["band_gap"] = None
    records |= {f"bad-{name}": record | {"elements": ["Cs"]} for name, (record, _) in BAD.items()}
    records[ODD_ID] = good(0) | {"elements": ["Cs"], "nelements": 1, "stable": True}
    lines = [{"x-optimade": {"meta": {"api_version": "1.1.0"}}}]
    lines += [{"type": "structures", "id": name, "attributes": record} for name, record in records.items()]
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, lines)))
    server = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("optimade_server.py"), folder / "records.jsonl"],
        env=os.environ
        | {
            "OPTIMADE_CONFIG_FILE": str(folder / "none.json"),
            "OPTIMADE_LOG_DIR": str(folder),
            "OPTIMADE_LOG_LEVEL": "critical",  # it logs to standard output
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:  # which closes its standard input at the end, and waits for it
        yield server.stdout.readline().strip()


def test_all_pages_and_every_bad_record(database):
    bunch = fetch_optimade('elements HAS "Cs"', database, target="_exmpl_band_gap")
    assert bunch.ids.tolist() == [*(f"good-{number}" for number in range(N_GOOD)), ODD_ID]
    assert bunch.data[:N_GOOD] == [structure_from_record(good(number)) for number in range(N_GOOD)]
    assert set(bunch.providers) == {database}
    expected = [number / 10 for number in range(N_GOOD)] + [np.nan]
    expected[3] = np.nan
    np.testing.assert_array_equal(bunch.target, expected)
    assert (bunch.target_names, bunch.unit, bunch.frame) == (["_exmpl_band_gap"], "eV", None)

    assert bunch.report.columns.tolist() == ["id", "provider", "reason"]
    assert bunch.report.id.tolist() == [f"bad-{name}" for name in BAD]
    assert set(bunch.report.provider) == {database}
    for (_, said), reason in zip(BAD.values(), bunch.report.reason, strict=True):
        assert said in reason
    (row,) = bunch.databases.to_dict("records")
    assert row == {
        "provider": database,
        "url": database,
        "n_crystals": N_GOOD + 1,
        "n_reported": len(BAD),
        "n_available": N_GOOD + 1 + len(BAD),
        "complete": True,
        "error": None,
        "warnings": [],
    }
    assert f"{N_GOOD + 1} crystals, all that match" in bunch.DESCR


@pytest.mark.filterwarnings("ignore:None of the crystals")
def test_targets_as_frame(database):
    names = ["_exmpl_stable", "_exmpl_band_gap"]
    bunch = fetch_optimade("nelements = 2", f"{database}/v1/", target=names, as_frame=True, limit=12)
    assert bunch.target_names == bunch.target.columns.tolist() == names
    assert bunch.unit == [None, "eV"]
    assert bunch.target.shape == (12, 2)
    assert bunch.frame.columns.tolist() == ["structure", *names]
    assert isinstance(bunch.data, pd.Series)
    single = fetch_optimade("nelements = 2", database, target="_exmpl_band_gap", as_frame=True, limit=12)
    pd.testing.assert_series_equal(single.target, bunch.target["_exmpl_band_gap"])


def test_return_X_y(database):
    X, y = fetch_optimade("nelements = 2", database, target="_exmpl_band_gap", limit=12, return_X_y=True)
    assert len(X) == len(y) == 12
    with pytest.warns(SkippedStructureWarning, match=f"{len(BAD)} records cannot be used, the first, bad-mixed of "):
        fetch_optimade("", database, target="_exmpl_band_gap", return_X_y=True)
    with pytest.raises(ValueError, match="needs a target"):
        fetch_optimade("", database, return_X_y=True)


@pytest.mark.parametrize("limit", [1, 10, 15, N_GOOD - 1])
@pytest.mark.parametrize("page_size", [None, 4])
def test_limit(database, limit, page_size):
    bunch = fetch_optimade("nelements = 2", database, limit=limit, page_size=page_size)
    assert bunch.ids.tolist() == [f"good-{number}" for number in range(limit)]
    assert (bunch.target, bunch.target_names, bunch.unit) == (None, [], None)
    assert not bunch.databases.complete[0]
    assert f"{limit} crystals, from the first {limit} of {N_GOOD} records" in bunch.DESCR


def test_limit_just_reached_is_complete(database):
    assert fetch_optimade("nelements = 2", database, limit=N_GOOD).databases.complete[0]
    assert fetch_optimade("nelements = 2", database, limit=None).databases.complete[0]


def test_nothing_matches(database):
    bunch = fetch_optimade("nelements = 7", database)
    assert bunch.data == []
    assert bunch.databases.complete[0]
    assert len(bunch.report) == 0


def test_filter_reaches_the_server_as_it_is(database):
    assert fetch_optimade(f'id = "{ODD_ID}"', database).ids.tolist() == [ODD_ID]


def test_filters_that_are_none(database, no_network):
    with pytest.raises(DatasetError, match=r"'nelements = ' is not an OPTIMADE filter: .*end-of-input"):
        fetch_optimade("nelements = ", database)


def test_what_the_server_refuses(database, capfd):
    with pytest.raises(DatasetError, match=f"(?s)No database could be read.*{database}: 400 .*'colour' is not a known"):
        fetch_optimade('colour = "red"', database)
    with pytest.raises(DatasetError, match="Max allowed page_limit is 20, you requested 50"):
        fetch_optimade("", database, page_size=50)
    with pytest.raises(DatasetError, match=r"no property '_exmpl_bandgap'\. Did you mean '_exmpl_band_gap'\?"):
        fetch_optimade("", database, target="_exmpl_bandgap")
    assert capfd.readouterr().err == ""  # said by the exception, and by nothing else


@pytest.mark.filterwarnings("ignore:None of the crystals")
def test_targets_that_are_not_there(database):
    bunch = fetch_optimade("nelements = 2", database, target=["_exmpl_band_gap", "_exmpl_gap"], limit=5)
    assert bunch.target["_exmpl_gap"].isna().all()
    assert "no property '_exmpl_gap'" in bunch.databases.warnings[0][0]


def test_target_without_any_value(database):
    with pytest.warns(UserWarning, match="None of the crystals has a value of '_exmpl_stable'"):
        fetch_optimade("nelements = 2", database, target="_exmpl_stable", limit=5)


def test_resumed_from_an_earlier_limit(database, tmp_path):
    fresh = fetch_optimade("", database, target="_exmpl_band_gap")
    for limit in (5, 15, 12, None, None):
        bunch = fetch_optimade("", database, target="_exmpl_band_gap", limit=limit, resume=tmp_path)
        assert bunch.ids.tolist() == fresh.ids[:limit].tolist()
        assert bunch.unit == "eV"
    assert bunch.data == fresh.data
    pd.testing.assert_frame_equal(bunch.report, fresh.report)
    pd.testing.assert_frame_equal(bunch.databases, fresh.databases)
    np.testing.assert_array_equal(bunch.target, fresh.target)
    # Another filter or target is another query.
    assert fetch_optimade("nelements = 2", database, resume=tmp_path, limit=3).target is None
    assert len(list(tmp_path.iterdir())) == 2
    assert not list(tmp_path.rglob(".*"))


def test_providers_by_id(database, stub, monkeypatch):
    def links(request):
        if request.path == "/providers":
            ids = {"home": stub.url, "dead": f"{stub.url}/dead", "none": None}
            return [{"id": name, "type": "links", "attributes": {"base_url": url}} for name, url in ids.items()]
        attributes = {"name": "x", "description": "x", "homepage": None}
        children = [
            attributes | {"base_url": database, "link_type": "child", "aggregate": "ok"},
            attributes | {"base_url": f"{stub.url}/test", "link_type": "child", "aggregate": "test"},
            attributes | {"base_url": f"{stub.url}/root", "link_type": "root"},
        ]
        return [{"id": str(n), "type": "links", "attributes": child} for n, child in enumerate(children)]

    stub.answer = lambda request: (
        request.error(404) if "dead" in request.path else request.json({"data": links(request)})
    )
    monkeypatch.setattr("optimade.utils.PROVIDER_LIST_URLS", (f"{stub.url}/providers",))
    bunch = fetch_optimade("nelements = 2", "home")
    assert bunch.databases[["provider", "url"]].values.tolist() == [["home", database]]
    assert len(bunch.data) == N_GOOD

    # By its address as well, it is still asked once.
    with pytest.warns(UserWarning, match="2 of 3 databases could not be read"):
        bunch = fetch_optimade("nelements = 2", [database, "home", "dead", "none"])
    assert len(bunch.data) == N_GOOD
    assert bunch.databases.provider.tolist() == [database, "dead", "none"]
    assert bunch.databases.url.tolist() == [database, None, None]
    assert "Invalid response" in bunch.databases.error[1]
    assert "provides no base URL" in bunch.databases.error[2]
    with pytest.warns(UserWarning, match="2 of 3 databases"):
        assert fetch_optimade("nelements = 2").databases.provider.tolist() == ["home", "dead", "none"]

    with pytest.raises(DatasetError, match=r"id 'hme'\. Did you mean 'home'\? Known are home, dead, none"):
        fetch_optimade("", "hme")


# ---------------------------------------------------------------------- servers that misbehave


class Request:
    """What came to a stub, and ways to answer it."""

    def __init__(self, handler):
        self.handler = handler
        self.path = urlsplit(handler.path).path
        self.page = int(parse_qs(urlsplit(handler.path).query).get("page", [0])[0])

    def send(self, content, status=200, length=None, **headers):
        self.handler.send_response(status)
        self.handler.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()
        self.handler.wfile.write(content)

    def json(self, content, **more):
        self.send(json.dumps(content).encode(), **more)

    def error(self, status, **headers):
        self.json({"errors": [{"title": "Error", "detail": f"status {status}"}]}, status=status, **headers)


class Stub(ThreadingHTTPServer):
    """Serves three pages of two crystals each, unless told otherwise by `answer` or `change`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.pages = []  # asked for, in order
        self.answer = self.serve
        self.change = lambda page, content: None

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            request = Request(self)
            self.server.pages.append(request.page)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.server.answer(request)

        def log_message(self, *args):
            pass

    def content(self, page):
        numbers = range(2 * page, 2 * page + 2)
        content = {
            "data": [{"id": f"s-{n}", "type": "structures", "attributes": good(n)} for n in numbers],
            "meta": {"data_returned": 6, "data_available": 6},
            "links": {"next": f"{self.url}/v1/structures?page={page + 1}" if page < 2 else None},
        }
        self.change(page, content)
        return content

    def serve(self, request):
        request.json(self.content(request.page))


@pytest.fixture
def start():
    with contextlib.ExitStack() as stack:

        def start():
            server = stack.enter_context(Stub())
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
            stack.callback(server.shutdown)
            return server

        yield start


@pytest.fixture
def stub(start):
    return start()


ALL = [f"s-{number}" for number in range(6)]


def test_one_page_after_the_other(stub):
    assert fetch_optimade("", stub.url).ids.tolist() == ALL
    assert stub.pages == [0, 1, 2]


@pytest.mark.parametrize("fault", ["500", "503", "429", "silence"])
def test_faults_that_pass(stub, fault):
    timeout = 0.5 if fault == "silence" else 30

    def answer(request):
        if request.page == 1 and stub.pages.count(1) < 3:
            if fault == "silence":
                time.sleep(0.8)
            else:
                request.error(int(fault), Retry_After="0")
        else:
            stub.serve(request)

    stub.answer = answer
    bunch = fetch_optimade("", stub.url, timeout=timeout)
    assert bunch.ids.tolist() == ALL
    assert bunch.databases.complete[0]
    assert stub.pages == [0, 1, 1, 1, 2]


@pytest.mark.parametrize(
    ("fault", "message"), [("500", "too many 500"), ("429", "too many 429"), ("silence", "Read timed out")]
)
def test_faults_that_stay(start, fault, message):
    broken, whole = start(), start()
    timeout = 0.5 if fault == "silence" else 30

    def answer(request):
        if request.page < 1:
            broken.serve(request)
        elif fault == "silence":
            time.sleep(0.8)
        else:
            request.error(int(fault), Retry_After="0")

    broken.answer = answer
    with pytest.warns(UserWarning, match=f"1 of 2 databases could not be read.*{broken.url}: .*{message}"):
        bunch = fetch_optimade("", [broken.url, whole.url], timeout=timeout, n_retries=1)
    assert broken.pages == [0, 1, 1]
    assert bunch.ids.tolist() == [*ALL[:2], *ALL]
    assert bunch.providers.tolist() == [broken.url] * 2 + [whole.url] * 6
    assert bunch.databases.complete.tolist() == [False, True]
    assert message in bunch.databases.error[0]
    assert bunch.databases.error[1] is None
    with pytest.raises(DatasetError, match=f"{broken.url} could not be read: .*{message}"):
        fetch_optimade("", [broken.url, whole.url], timeout=timeout, n_retries=0, on_error="raise")
    with pytest.raises(
        DatasetError, match=rf"(?s)- {broken.url}: .*{message}.*The 2 records that came are lost; resume"
    ):
        fetch_optimade("", broken.url, timeout=timeout, n_retries=0)


def test_wait_that_a_server_asks_for_is_limited(stub, monkeypatch):
    monkeypatch.setattr("crystalssl.datasets._optimade_client._LONGEST_WAIT", 0.01)
    stub.answer = lambda request: request.error(429, Retry_After="3600") if stub.pages == [0] else stub.serve(request)
    assert fetch_optimade("", stub.url).ids.tolist() == ALL
    stub.change = lambda page, content: content["meta"].update(request_delay=3600)
    assert fetch_optimade("", stub.url).ids.tolist() == ALL


def test_pauses_between_pages(stub, monkeypatch):
    pauses = []

    class Event(threading.Event):
        def wait(self, timeout=None):
            pauses.append(timeout)
            return super().wait(0)

    stub.change = lambda page, content: content["meta"].update(request_delay=2.5)
    query = _optimade.Query

    def noting(**fields):
        return query(**fields | {"stop": Event()})

    monkeypatch.setattr(_optimade, "Query", noting)
    fetch_optimade("", stub.url)
    assert pauses == [2.5, 2.5]
    fetch_optimade("", stub.url, limit=2)
    assert pauses == [2.5, 2.5]


def test_nobody_there():
    with Stub() as closed:
        pass
    with pytest.raises(DatasetError, match=rf"(?s)No database could be read.*- {closed.url}: ConnectionError.*refused"):
        fetch_optimade("", closed.url, n_retries=0)


SECOND_PAGE = {
    "no JSON": (lambda request: request.send(b"<html>busy</html>"), "Could not decode response as JSON"),
    "half": (lambda request: request.send(b'{"data": [', length=1000), "Connection broken|IncompleteRead"),
    "list": (lambda request: request.json([1]), "'list' object has no attribute"),
    "no data": (lambda request: request.json({"data": None}), "answers without a list of structures"),
    "errors": (lambda request: request.json({"data": [], "errors": [{"detail": "out of cheese"}]}), "out of cheese"),
    "meta": (lambda request: request.json({"data": [], "meta": [1]}), "meta or links that are no objects"),
}


@pytest.mark.parametrize("name", SECOND_PAGE)
def test_broken_pages(stub, name, tmp_path):
    broken, message = SECOND_PAGE[name]
    stub.answer = lambda request: broken(request) if request.page == 1 else stub.serve(request)
    with pytest.raises(
        DatasetError, match=rf"(?s){stub.url}: .*({message}).*The 2 records that came are kept in {tmp_path}"
    ):
        fetch_optimade("", stub.url, n_retries=0, resume=tmp_path)
    # The page before is not asked for again.
    stub.answer = stub.serve
    assert fetch_optimade("", stub.url, resume=tmp_path).ids.tolist() == ALL
    assert stub.pages == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("{url}/v1/structures?page=1", "run in a circle"),  # itself
        ("{url}/v1/structures?page=0", "run in a circle"),
        ("{url}/v1/structures?page=1&again={time}", "run in a circle"),
        ("{other}/v1/structures?page=2", "said to be on another server"),
        ("http://127.0.0.1:x/", "no address that makes sense"),
        ("file:///etc/passwd", "said to be on another server"),
    ],
)
def test_links_that_lead_astray(start, link, message):
    stub, other = start(), start()

    def change(page, content):
        content["meta"] = {}  # nothing by which the client itself would notice
        if page == 1:
            content["links"]["next"] = link.format(url=stub.url, other=other.url, time=time.time_ns())

    stub.change = change
    with pytest.raises(DatasetError, match=message):
        fetch_optimade("", stub.url, limit=None)
    assert other.pages == []
    assert len(stub.pages) <= 3


@pytest.mark.parametrize("form", ["object", "relative"])
def test_forms_of_links(stub, form):
    def change(page, content):
        link = content["links"]["next"]
        if link and form == "object":
            content["links"]["next"] = {"href": link}
        elif link:
            content["links"]["next"] = f"structures?page={page + 1}"
        else:
            content["links"] = None
            content["meta"] = None

    stub.change = change
    bunch = fetch_optimade("", stub.url)
    assert bunch.ids.tolist() == ALL
    assert bunch.databases.complete[0]


def test_records_that_are_none(stub):
    def change(page, content):
        if page == 1:
            content["data"][:1] = [
                None,
                {"id": 5},
                {"id": "bare"},
                {"id": "s-0", "attributes": good(0)},
                *({"id": name, "attributes": record} for name, (record, _) in WORSE.items()),
            ]

    stub.change = change
    bunch = fetch_optimade("", stub.url)
    assert bunch.ids.tolist() == ["s-0", "s-1", "s-3", "s-4", "s-5"]
    assert bunch.report.id.tolist() == [None, None, "bare", "s-0", *WORSE]
    assert bunch.report.reason.tolist()[:4] == [
        "the record has no id, or none that is text",
        "the record has no id, or none that is text",
        "the record has no attributes",
        "the same id came before",
    ]


def test_remarks_of_the_server(stub):
    remark = {"type": "warning", "title": "Slow", "detail": "come back at night"}
    stub.change = lambda page, content: content["meta"].update(warnings=[remark])
    assert fetch_optimade("", stub.url).databases.warnings[0] == ["Slow: come back at night"]


def with_info(stub, properties):
    serve = stub.answer
    stub.answer = lambda request: (
        request.json({"data": {"properties": properties}}) if "/info/" in request.path else serve(request)
    )


@pytest.mark.parametrize("kind", ["str", "bool", "int", "mixed", "list"])
def test_types_of_targets(stub, kind):
    values = {
        "str": (["a", "b", None] * 2, object),
        "bool": ([True, False] * 3, bool),
        "int": ([1, None, 3, 4, 5, 2**70], float),
        "mixed": ([1, True, "x", None, 2.5, 10**400], object),
        "list": ([[1, 2]] * 6, object),
    }
    expected, dtype = values[kind]
    with_info(stub, {"_x": {"unit": None}})

    def change(page, content):
        for n, record in enumerate(content["data"]):
            record["attributes"] = record["attributes"] | {"_x": expected[2 * page + n]}

    stub.change = change
    target = fetch_optimade("", stub.url, target="_x").target
    assert target.dtype == dtype
    assert target.tolist() == [
        pytest.approx(np.nan, nan_ok=True) if dtype is float and v is None else v for v in expected
    ]


def test_units_that_differ(start):
    electronvolt, joule = start(), start()
    for stub, unit in ((electronvolt, "eV"), (joule, "J")):
        with_info(stub, {"_x": {"unit": unit}})
        stub.change = lambda page, content: [record["attributes"].update(_x=1.0) for record in content["data"]]
    with pytest.raises(DatasetError, match=f"'_x' is in eV in {electronvolt.url}, but in J in {joule.url}"):
        fetch_optimade("", [electronvolt.url, joule.url], target="_x")


def test_databases_of_one_server_take_turns(start):
    """Two servers are asked at the same time, each for one page at a time."""
    running, most = collections.Counter(), collections.Counter()
    both = threading.Barrier(2, timeout=10)
    stubs = [start(), start()]

    def answer_of(stub):
        def answer(request):
            running[stub.url] += 1
            most[stub.url] = max(most[stub.url], running[stub.url])
            if request.path.startswith("/a/") and request.page == 0:
                both.wait()  # breaks, and with it the answer, if the other server is not asked meanwhile
            request.json(stub.content(request.page) | {"links": {}})
            running[stub.url] -= 1

        return answer

    for stub in stubs:
        stub.answer = answer_of(stub)
    bunch = fetch_optimade("", [f"{stub.url}/{name}" for stub in stubs for name in ("a", "b", "c")], n_retries=0)
    assert bunch.databases.error.tolist() == [None] * 6
    assert most == {stub.url: 1 for stub in stubs}


# ---------------------------------------------------------------------- resumption


def test_a_second_call_asks_for_the_rest(stub, tmp_path):
    stub.answer = lambda request: request.error(500) if request.page == 2 else stub.serve(request)
    with pytest.raises(DatasetError, match=f"The 4 records that came are kept in {tmp_path}: the same call goes on"):
        fetch_optimade("", stub.url, resume=tmp_path, n_retries=0)
    stub.answer = stub.serve
    bunch = fetch_optimade("", stub.url, resume=tmp_path)
    assert bunch.ids.tolist() == ALL
    assert stub.pages == [0, 1, 2, 2]
    stub.answer = lambda request: pytest.fail("asked again")
    again = fetch_optimade("", stub.url, resume=tmp_path)
    assert again.data == bunch.data
    assert again.databases.complete[0]
    assert stub.pages == [0, 1, 2, 2]


def test_ctrl_c_leaves_what_came(stub, tmp_path, monkeypatch):
    reached, over = threading.Event(), threading.Event()

    def answer(request):
        if request.page == 1:
            reached.set()
            over.wait(10)
        stub.serve(request)

    def interrupted(futures):
        assert reached.wait(10)
        raise KeyboardInterrupt

    stub.answer = answer
    with monkeypatch.context() as patch:
        patch.setattr(_optimade, "as_completed", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch_optimade("", stub.url, resume=tmp_path)
    over.set()
    for thread in threading.enumerate():
        if thread.name.startswith("ThreadPoolExecutor"):
            thread.join(10)
    assert stub.pages == [0, 1]  # the page under way was the last that was asked for
    stub.answer = stub.serve
    assert fetch_optimade("", stub.url, resume=tmp_path).ids.tolist() == ALL
    assert stub.pages == [0, 1, 1, 2]


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08 broken", b"{}", None])
def test_damaged_page(stub, tmp_path, content):
    fetch_optimade("", stub.url, resume=tmp_path)
    page = sorted(tmp_path.rglob("page-*"))[1]
    page.write_bytes(page.read_bytes()[:-20] if content is None else content)
    with pytest.raises(DatasetError, match=f"{page} cannot be read .* Delete the folder {page.parent} to ask"):
        fetch_optimade("", stub.url, resume=tmp_path)


def test_folder_that_cannot_be_written(stub, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match=r"page-000001.json.gz cannot be written"):
        fetch_optimade("", stub.url, resume=tmp_path / "file")


# ---------------------------------------------------------------------- calls that make no sense


def test_progress_after_some_seconds(stub, capsys, monkeypatch):
    def fetch(**more):
        stub.answer = lambda request: (time.sleep(0.12), stub.serve(request))
        fetch_optimade("", stub.url, **more)
        return capsys.readouterr().err

    monkeypatch.setattr(_optimade, "_BAR_AFTER", 60)
    assert fetch() == ""
    monkeypatch.setattr(_optimade, "_BAR_AFTER", 0.01)
    assert fetch(verbose=0) == ""
    shown = fetch()
    assert "OPTIMADE" in shown
    assert "6/6" in shown


def test_without_the_client(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] == "optimade":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"pip install 'crystalssl\[optimade\]'"):
        fetch_optimade("", "http://127.0.0.1")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"on_error": "reprot"}, "on_error must be 'report' or 'raise', not 'reprot'. Did you mean 'report'?"),
        ({"limit": 0}, "limit must be a positive integer or None, not 0"),
        ({"limit": 1.5}, "limit must be a positive integer or None, not 1.5"),
        ({"page_size": -1}, "page_size must be a positive integer or None, not -1"),
        ({"n_retries": -1}, "n_retries must be an integer that is not negative, not -1"),
        ({"timeout": 0}, "timeout must be a positive number of seconds, not 0"),
        ({"providers": []}, "providers is empty"),
    ],
)
def test_parameters_that_make_no_sense(parameters, message, no_network):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        fetch_optimade(**{"filter": "", "providers": "http://127.0.0.1", **parameters})
    assert message in str(caught.value)
    with pytest.raises(TypeError, match=r"providers must be addresses or ids, as text, not \[5\]"):
        fetch_optimade("", [5])
