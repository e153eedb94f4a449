"""The figures in the documents are those of the committed result files, and the targets are all there."""

import json
import os
import subprocess

import pytest

from tests.bench import usage
from tests.bench.figures import AIMS, verdicts
from tests.bench.publishing import GROWTH, PLOT, RESULT, expected, with_section

DOCUMENTS = [(document, name) for document, sections in expected().items() for name in sections]


@pytest.mark.parametrize(("document", "name"), DOCUMENTS, ids=[f"{d.name}-{n}" for d, n in DOCUMENTS])
def test_documents_say_what_was_measured(document, name):
    text = document.read_text(encoding="utf-8")
    assert with_section(text, name, expected()[document][name]) == text


def test_every_document_has_its_figures():
    assert {(document.name, name) for document, name in DOCUMENTS} == {
        ("README.md", "bench"), ("performance.md", "eras"), ("performance.md", "growth"),
    }  # fmt: skip
    assert PLOT.exists()
    assert PLOT.with_suffix(".png").exists()


def test_the_verdicts_follow_from_the_figures():
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    made = verdicts(result["figures"], result["commit_us"])
    assert [(v.figure, v.era, v.is_met) for v in made] == [
        (t["figure"], t["era"], t["is_met"]) for t in result["targets"]
    ]
    assert len(made) == len(AIMS) * len(result["figures"])
    assert result["rows"]["holds"]


def test_growth_was_measured_of_every_factor():
    growth = json.loads(GROWTH.read_text(encoding="utf-8"))
    assert [judged["factor"] for judged in growth["factors"]] == [
        "bytes each way", "servers and agents", "rows in the log", "sessions in use", "open streams", "workers",
    ]  # fmt: skip
    assert growth["million"]["calls"] >= 1_000_000


def test_a_document_without_its_marks_is_an_error():
    with pytest.raises(ValueError, match="no marks"):
        with_section("nothing", "bench", "text")


def test_a_process_is_counted_once_although_its_parent_is_named_too():
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            found = usage.tree([os.getpid(), child.pid])
        finally:
            child.kill()
    assert child.pid in found
    assert len(found) == len(set(found))
