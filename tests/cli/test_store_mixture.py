"""Mixtures of stores as gin: the example file, its text, and one store in its place."""

from triarch.cli.gin.files import build, parse, render

_FILES = ["runs/ettin_decoder/150m.gin", "models/ettin_decoder/150m.gin", "data/ettin_phases.gin"]


def test_the_three_phases_come_back_from_their_text(tmp_path):
    parse(_FILES, [])
    config = build("RunConfig")
    config.data.store.validate()
    assert [phase.start for phase in config.data.store.phases] == [0, 360_000, 413_000]
    assert round(config.data.store.phases[0].weights[0] / sum(config.data.store.phases[0].weights), 3) == 0.491
    (tmp_path / "config.gin").write_text(render(config))
    parse([str(tmp_path / "config.gin")], [])
    assert build("RunConfig") == config


def test_one_store_takes_the_place_of_a_mixture():
    parse(_FILES, ["DataConfig.store=stores/one"])
    assert build("RunConfig").data.store == "stores/one"
