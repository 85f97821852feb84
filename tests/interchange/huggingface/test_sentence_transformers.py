"""Folders of sentence-transformers: what they say is done, or refused in one line; vectors are the library's."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import triarch
from tests.interchange.huggingface import parity
from tests.interchange.huggingface.families.encoders import test_bert
from tests.tokenizers import huggingface
from triarch.cli.main import main
from triarch.errors import UserError
from triarch.interchange.embedder import Embedder
from triarch.interchange.huggingface.sentence_transformers import embedder_files, read_embedder

TEXTS = ["the quick brown fox", "a", "import numpy as np and so on and on and on and on"]
OWN = Embedder("mean", True, "cosine", {"query": "import "}, None, False, 12)


def write(folder, embedder=OWN):
    for name, text in embedder_files(embedder, 24).items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    """A tiny BERT's folder with its tokenizer."""
    path = huggingface.write_folder(tmp_path_factory.mktemp("bert") / "bert", "bert", tokenizer_config={})
    size = huggingface.LAYOUTS["bert"]().get_vocab_size()
    options = test_bert.BASE | dict(vocab_size=size, max_position_embeddings=32)
    parity.make("BertForMaskedLM", "BertConfig", **options).save_pretrained(path)
    return path


@pytest.mark.parametrize(
    "embedder", [OWN, Embedder("cls", False, "dot", {"query": "q: ", "document": "d: "}, "document"), Embedder("last")]
)
def test_what_is_written_is_read_again(tmp_path, embedder):
    assert read_embedder(write(tmp_path, embedder)) == embedder


def test_newer_folders_name_their_pooling(tmp_path):
    write(tmp_path)
    (tmp_path / "1_Pooling" / "config.json").write_text('{"embedding_dimension": 24, "pooling_mode": "lasttoken"}')
    (tmp_path / "sentence_bert_config.json").write_text('{"transformer_task": "feature-extraction"}')
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 7}')
    found = read_embedder(tmp_path)
    assert found is not None and (found.pooling, found.max_length, found.counts_prompt) == ("last", 7, True)


@pytest.mark.parametrize(
    "name, fields, message",
    [
        ("1_Pooling/config.json", {"pooling_mode": ["mean", "max"]}, r"the pooling mean \+ max has no equivalent"),
        ("1_Pooling/config.json", {"pooling_mode": "weightedmean"}, "the pooling weightedmean has no equivalent"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case has no equivalent"),
        ("config_sentence_transformers.json", {"similarity_fn_name": "euclidean"}, "similarity_fn_name = 'euclidean'"),
        ("config_sentence_transformers.json", {"default_prompt_name": "q"}, "default_prompt: no prompt 'q'"),
        ("config_sentence_transformers.json", {"prompts": {"query": 3}}, "prompts"),
        (
            "modules.json",
            [{"path": "", "type": "x.Transformer"}, {"path": "2_Dense", "type": "x.Dense"}],
            "Dense has no",
        ),
        ("modules.json", [{"path": "0", "type": "x.Transformer"}], "expected it in the folder itself"),
        ("modules.json", [{"path": "", "type": "x.Transformer"}], "its modules are Transformer: expected"),
    ],
)
def test_what_has_no_equivalent_is_one_line(tmp_path, name, fields, message):
    (write(tmp_path) / name).write_text(json.dumps(fields))
    with pytest.raises(UserError, match=message):
        read_embedder(tmp_path)


def test_a_pooling_outside_the_folder_is_not_read(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder)
    (tmp_path / "config.json").write_text('{"pooling_mode": "mean"}')
    modules = [{"path": "", "type": "x.Transformer"}, {"path": "..", "type": "x.Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UserError, match="is not followed"):
        read_embedder(folder)


def test_an_import_embeds_as_its_folder_says(body, tmp_path):
    write(body)
    assert main(["import", str(body), f"--output={tmp_path / 'export'}"]) == 0
    plain = triarch.load(body)
    for model in (plain, triarch.load(tmp_path / "export")):
        assert model.embedder() == OWN
        found = model.embed(TEXTS, prompt_name="query")
        # Before the text itself stand [CLS] and the prompt, which do not count.
        skipped = 1 + len(model.tokenize("import "))
        states = model.states("import " + TEXTS[1])["encoder"][-1]
        wanted = states[skipped:].mean(0)
        np.testing.assert_allclose(found[1], wanted / np.linalg.norm(wanted), atol=1e-5)
    library = pytest.importorskip("sentence_transformers")
    theirs = library.SentenceTransformer(str(body), device="cpu")
    np.testing.assert_allclose(plain.embed(TEXTS), theirs.encode(TEXTS), atol=1e-5)
    np.testing.assert_allclose(
        plain.embed(TEXTS, prompt_name="query"), theirs.encode(TEXTS, prompt_name="query"), atol=1e-5
    )


def test_an_exported_embedder_is_the_librarys(body, tmp_path):
    """A body without a head, imported, and exported again with another pooling and a prompt."""
    folder = tmp_path / "headless"
    shutil.copytree(body, folder)
    shutil.rmtree(folder / "1_Pooling", ignore_errors=True)
    (folder / "modules.json").unlink(missing_ok=True)
    parity.transformers.AutoModel.from_pretrained(body).save_pretrained(folder)
    assert main(["import", str(folder), f"--output={tmp_path / 'export'}"]) == 0
    output = tmp_path / "st"
    flags = ["--format=sentence_transformers", "--pooling=cls", "--normalize", "--prompt=query=import "]
    assert main(["export", f"--workdir={tmp_path / 'export'}", f"--output={output}", *flags]) == 0
    again = triarch.load(output)
    assert again.embedder() == Embedder("cls", True, "cosine", {"query": "import "})
    ours = triarch.load(tmp_path / "export")
    wanted = ours.embed(TEXTS, pooling="cls", normalize=True, prompt="import ")
    np.testing.assert_allclose(again.embed(TEXTS, prompt_name="query"), wanted, atol=1e-5)
    library = pytest.importorskip("sentence_transformers")
    theirs = library.SentenceTransformer(str(output), device="cpu")
    np.testing.assert_allclose(theirs.encode(TEXTS, prompt_name="query"), wanted, atol=1e-5)


def test_what_cannot_be_exported_so_is_one_line(body, tmp_path, capsys):
    assert main(["import", str(body), f"--output={tmp_path / 'export'}"]) == 0
    given = ["export", f"--workdir={tmp_path / 'export'}", f"--output={tmp_path / 'st'}"]
    for flags, message in (
        (["--format=huggingface", "--pooling=cls"], "--pooling goes with --format=sentence_transformers"),
        (["--format=sentence_transformers", "--pooling=max"], "no pooling 'max'"),
        (["--format=sentence_transformers", "--prompt=query"], "--prompt=query: expected NAME=TEXT"),
    ):
        capsys.readouterr()
        assert main([*given, *flags]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "st").exists()
