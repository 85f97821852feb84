"""The Python API from raw text: its numbers against transformers, and against `triarch evaluate`."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import triarch
from tests.interchange.huggingface.families.decoders import test_gpt2
from tests.interchange.huggingface.families.encoder_decoders import test_t5
from tests.interchange.huggingface.families.encoders import test_bert
from tests.tokenizers import huggingface
from tests.training import tiny
from triarch.cli.main import main
from triarch.data.store import TokenStore
from triarch.errors import UserError
from triarch.objectives import SpecialTokens
from triarch.prepare.corpora.files import Files
from triarch.prepare.pipeline import VocabularyChoice, prepare
from triarch.training import DataConfig, train

TEXTS = ["the quick brown fox", "a", "import numpy as np and so on"]
# Of the largest value: float32's rounding over a few layers, with room.
BOUND = 1e-4


def close(found, wanted):
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=BOUND * np.abs(wanted).max())


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Hugging Face folders of tiny models, with tokenizers, and the models of transformers."""
    parity = test_gpt2.parity
    folder = tmp_path_factory.mktemp("theirs")
    made = {}
    for name, cls, config, base, special in (
        ("gpt2", "GPT2LMHeadModel", "GPT2Config", test_gpt2.BASE | dict(n_positions=64), {"eos": "<|endoftext|>"}),
        ("t5", "T5ForConditionalGeneration", "T5Config", test_t5.BASE, {"eos": "</s>", "pad": "<pad>"}),
        ("bert", "BertForMaskedLM", "BertConfig", test_bert.BASE | dict(max_position_embeddings=64), {}),
    ):
        path = huggingface.write_folder(
            folder / name, name, tokenizer_config={f"{role}_token": token for role, token in special.items()}
        )
        size = huggingface.LAYOUTS[name]().get_vocab_size()
        start = {"decoder_start_token_id": 0} if name == "t5" else {}
        model = parity.make(cls, config, **base | dict(vocab_size=size, n_layer=2) | start)
        model.save_pretrained(path)
        made[name] = (path, model)
    return made


@pytest.fixture(scope="module")
def loaded(folders):
    return {name: triarch.load(path) for name, (path, _) in folders.items()}


def theirs(model, **inputs):
    torch = test_gpt2.parity.torch
    with torch.no_grad():
        given = {name: torch.tensor([list(ids)]) for name, ids in inputs.items()}
        return model(**given, output_hidden_states=True)


def test_loading_a_folder_writes_nothing(folders, loaded):
    names = {path.name for path in folders["gpt2"][0].iterdir()}
    assert names == {
        "tokenizer.json",
        "tokenizer_config.json",
        "config.json",
        "model.safetensors",
        "generation_config.json",
    }
    assert loaded["gpt2"].path == folders["gpt2"][0]
    with pytest.raises(UserError, match="holds one step"):
        triarch.load(folders["gpt2"][0], step=3)


@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_logits_states_and_vectors_are_those_of_transformers(folders, loaded, name):
    ours, model = loaded[name], folders[name][1]
    ids = [huggingface.LAYOUTS[name]().encode(text).ids for text in TEXTS]
    assert [ours.read(text) for text in TEXTS] == ids
    wanted = [theirs(model, input_ids=row) for row in ids]
    for found, reference in zip(ours.logits(TEXTS, batch_size=2), wanted, strict=True):
        close(found, reference.logits[0])
    side = "decoder" if name == "gpt2" else "encoder"
    for found, reference in zip(ours.states(TEXTS), wanted, strict=True):
        for layer, state in enumerate(reference.hidden_states):
            close(found[side][layer], state[0])
    last = [reference.hidden_states[-1][0].numpy() for reference in wanted]
    close(ours.embed(TEXTS), [states.mean(0) for states in last])
    close(ours.embed(TEXTS, pooling="cls"), [states[0] for states in last])
    close(ours.embed(TEXTS[0], pooling="last"), last[0][-1])


def test_an_encoder_decoder_reads_pairs(folders, loaded):
    ours, model = loaded["t5"], folders["t5"][1]
    source, target = "the quick brown", "fox and dog"
    read = huggingface.LAYOUTS["t5"]().encode(source).ids
    labels = ours.tokenize(target)
    reference = theirs(model, input_ids=read, decoder_input_ids=[0, *labels[:-1]])
    close(ours.logits((source, target)), reference.logits[0])
    close(ours.states(source)["encoder"], np.stack([state[0] for state in reference.encoder_hidden_states]))
    close(ours.embed(source), reference.encoder_last_hidden_state[0].mean(0))
    torch = test_gpt2.parity.torch
    chances = torch.log_softmax(reference.logits[0], -1)[range(len(labels)), labels]
    found = ours.score((source, target))
    assert found.log_likelihood == pytest.approx(chances.sum().item(), rel=BOUND)
    assert (found.num_tokens, found.num_bytes) == (len(labels), len(target))
    # The class shifts labels itself, as targets are shifted here.
    with torch.no_grad():
        loss = model(input_ids=torch.tensor([read]), labels=torch.tensor([labels])).loss.item()
    assert found.nats_per_token == pytest.approx(loss, rel=BOUND)
    batch = {"encoder_input_tokens": np.array([read]), "decoder_target_tokens": np.array([labels])}
    close(ours.logits(batch)[0], reference.logits[0])
    with pytest.raises(UserError, match=r"text 1: an encoder-decoder reads a pair \(context, text\)"):
        ours.logits(source)


def test_a_decoders_score_is_transformers_loss(folders, loaded):
    ours, model = loaded["gpt2"], folders["gpt2"][1]
    torch = test_gpt2.parity.torch
    start = ours.special.bos
    for text, found in zip(TEXTS, ours.score(TEXTS), strict=True):
        ids = [start, *ours.tokenize(text)]
        chances = torch.log_softmax(theirs(model, input_ids=ids).logits[0], -1)[range(len(ids) - 1), ids[1:]]
        assert found.log_likelihood == pytest.approx(chances.sum().item(), rel=BOUND)
        assert found.bits_per_byte == pytest.approx(-chances.sum().item() / np.log(2) / len(text.encode()), rel=BOUND)
    pair = ours.score(("the quick", " brown fox"))
    whole, context = (ours.score(text).log_likelihood for text in ("the quick brown fox", "the quick"))
    with_start = theirs(model, input_ids=ours.tokenize("the quick brown fox")).logits[0]
    ids = ours.tokenize("the quick brown fox")
    rest = len(ours.tokenize("the quick"))
    chances = torch.log_softmax(with_start, -1)[range(rest - 1, len(ids) - 1), ids[rest:]]
    assert pair.log_likelihood == pytest.approx(chances.sum().item(), rel=BOUND)
    assert whole < context < 0
    long = ours.score("the quick brown fox jumps over a dog", max_length=4)
    assert long.num_tokens == len(ours.tokenize("the quick brown fox jumps over a dog"))


def test_text_is_generated_as_transformers_does(folders, loaded):
    ours, model = loaded["gpt2"], folders["gpt2"][1]
    torch = test_gpt2.parity.torch
    ids = ours.tokenize("the quick")
    wanted = model.generate(torch.tensor([ids]), max_new_tokens=6, do_sample=False, pad_token_id=0)[0, len(ids) :]
    answer = ours.generate("the quick", max_new_tokens=6)
    assert answer == ours.detokenize([*ids, *wanted.tolist()])[len(ours.detokenize(ids)) :]
    assert ours.generate(["the quick", "a"], max_new_tokens=6)[0] == answer
    letter = answer[len(answer) // 2]
    assert ours.generate("the quick", max_new_tokens=6, stop=[letter]) == answer[: answer.index(letter)]
    with pytest.raises(UserError, match=r"no setting 'max_tokens' \(did you mean 'max_new_tokens'"):
        ours.generate("a", max_tokens=3)
    filled = loaded["bert"].generate("the [MASK] fox")
    assert filled.startswith("the") and filled.endswith("fox") and "[MASK]" not in filled


def test_texts_begin_and_end_as_generation_config_says(folders, tmp_path):
    """A forced first token, and several that end a text: as transformers has it, here and in `triarch generate`."""
    folder, model = folders["t5"]
    own = tmp_path / "t5"
    shutil.copytree(folder, own)
    torch = test_gpt2.parity.torch
    said = dict(decoder_start_token_id=0, forced_bos_token_id=7, pad_token_id=0)
    free = dict(max_new_tokens=8, do_sample=False, eos_token_id=1)
    (own / "generation_config.json").write_text(json.dumps(said | dict(eos_token_id=1)))
    ids = triarch.load(own).read("the quick")
    whole = model.generate(torch.tensor([ids]), **said, **free)[0].tolist()
    assert whole[1] == 7
    other = next(token for token in whole[2:] if token not in (0, 1, 7))
    until = whole[1 : whole.index(other)]
    (own / "generation_config.json").write_text(json.dumps(said | dict(eos_token_id=[1, other])))
    ours = triarch.load(own)
    assert ours.generate("the quick", max_new_tokens=8) == ours.detokenize(until)
    assert ours.generate("the quick", max_new_tokens=1) == ours.detokenize([7])
    flags = ["--prompt=the quick", "--max_new_tokens=8", f"--json={tmp_path / 'answers'}"]
    assert main(["import", str(own), f"--output={tmp_path / 'export'}"]) == 0
    assert main(["generate", f"--model={tmp_path / 'export'}", *flags]) == 0
    (answer,) = json.loads((tmp_path / "answers").read_text())["completions"]
    assert answer["tokens"] == until


def test_what_is_no_text_is_one_line(loaded):
    ours = loaded["gpt2"]
    for wrong, message in (
        ([], "the list is empty"),
        ([3], "input 1: expected a text or a pair of texts, found int"),
        ([""], "text 1 is empty"),
        (["a " * 200], "the model has positions for 64"),
    ):
        with pytest.raises(UserError, match=message):
            ours.logits(wrong)
    for options, message in (
        (dict(pooling="max"), "no pooling 'max'"),
        (dict(prompt_name="query"), "the model has no prompt 'query': it knows none"),
        (dict(prompt="a", prompt_name="query"), "as a text or by its name, not both"),
        (dict(max_length=65), "max_length=65: the model has positions for 64"),
        (dict(prompt="the quick brown", max_length=2), "max_length=2: the prompt and what stands around"),
    ):
        with pytest.raises(UserError, match=message):
            ours.embed("a", **options)
    with pytest.raises(UserError, match="text 2 is empty"):
        ours.embed(["a", ""])


def test_vectors_are_of_what_is_left_of_a_text_with_its_prompt(folders, loaded):
    ours, text = loaded["bert"], "the quick brown fox jumps over a dog"
    close(ours.embed(text, prompt="import "), ours.embed("import " + text))
    read = ours.read(text)
    states = theirs(folders["bert"][1], input_ids=[*read[:5], read[-1]]).hidden_states[-1][0].numpy()
    found = ours.embed([text, "a"], max_length=6, normalize=True)[0]
    close(found, states.mean(0) / np.linalg.norm(states.mean(0)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on bytes, and its store."""
    folder = tmp_path_factory.mktemp("run")
    texts = "\n".join(json.dumps({"text": f"number {n} is {n * n}, é"}) for n in range(200))
    (folder / "texts.jsonl").write_text(texts)
    corpus = Files((str(folder / "texts.jsonl"),))
    store = prepare(corpus, "test", folder / "store", VocabularyChoice("bytes"), 32, 0.2, 1, layout="packed")
    model = tiny.model("decoder-only", vocab_size=260)
    config = tiny.run_config("", model=model, data=DataConfig(32, str(store.path)), steps=6)
    train(config, folder / "run", "")
    return folder


def test_shifted_targets_and_scores_are_what_evaluate_says(run):
    model = triarch.load(run / "run")
    result = run / "result.json"
    flags = ("--scoring=native", "--max_windows=all", f"--json={result}")
    assert main(["evaluate", f"--model={run / 'run'}", f"--in_domain={run / 'store'}", *flags]) == 0
    (evaluated,) = json.loads(result.read_text())["evaluations"]
    store = TokenStore.open(run / "store")
    reader = store.split("validation")
    rows = [reader[index] for index in range(len(reader))]
    batch = {
        "decoder_target_tokens": np.stack([row["tokens"] for row in rows]),
        "decoder_segment_ids": np.stack([row["segment_ids"] for row in rows]),
    }
    logits = model.logits(batch).astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    chances = np.take_along_axis(logs, batch["decoder_target_tokens"][..., None], -1)[..., 0]
    real = batch["decoder_segment_ids"] > 0
    assert -chances[real].mean() == pytest.approx(evaluated["nats_per_token"], rel=1e-5)
    # The first document of each row, from its text: it ends with the token that ends documents.
    eos = SpecialTokens.from_manifest(store.manifest.vocabulary.special).eos
    for row, own in zip(rows[:3], chances, strict=False):
        ids = row["tokens"][row["segment_ids"] == 1]
        text = model.detokenize(ids[ids != eos])
        scored = len(ids) - (ids[-1] == eos)
        if model.tokenize(text) == ids[:scored].tolist():
            assert model.score(text).log_likelihood == pytest.approx(own[:scored].sum(), rel=1e-5)


def test_starting_with_another_token_is_another_loss(run):
    """What a decoder reads first is part of the model: `read` begins with it."""
    model = triarch.load(run / "run")
    assert model.read("a") == [model.special.bos, *model.tokenize("a")]
    targets = np.array([model.tokenize("number 5")])
    shifted = model.logits({"decoder_target_tokens": targets})
    close(shifted[0], model.logits("number 5")[:-1])
    other = np.concatenate([[[model.special.eos]], targets[:, :-1]], 1)
    assert np.abs(model.logits({"decoder_input_tokens": other}) - shifted).max() > 1e-3


def test_results_are_columns(tmp_path):
    (tmp_path / "results.csv").write_text("run,num_params,loss\na,10,2.5\nb,20,\n")
    table = triarch.results(tmp_path)
    assert list(table) == ["run", "num_params", "loss"] and table.num_rows == 2
    assert table["num_params"].dtype == np.int64 and np.isnan(table["loss"][1])
    assert table.where(run="b")["num_params"].tolist() == [20]
    assert next(table.rows()) == {"run": "a", "num_params": 10, "loss": 2.5}
    pandas = pytest.importorskip("pandas")
    assert isinstance(table.to_pandas(), pandas.DataFrame)
    with pytest.raises(UserError, match=r"no table 'result' \(did you mean 'results'"):
        triarch.results(tmp_path, "result")
    with pytest.raises(UserError, match=r"no column 'los' \(did you mean 'loss'"):
        table.where(los=1)
    (tmp_path / "results.csv").write_text("run,loss\na,1,2\n")
    with pytest.raises(UserError, match=r"results.csv line 2: 3 cells, expected 2"):
        triarch.results(tmp_path)


def test_the_public_names_are_there():
    assert all(hasattr(triarch, name) for name in triarch.__all__)
