"""Published corpora as they are downloaded: which folder each task reads below the user's data folder."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from triarch.errors import UserError
from triarch.prepare.corpora.documents import Document, LeftOut
from triarch.prepare.corpora.files import Files, matching

DATA_DIR_VARIABLE = "TRIARCH_DATA_DIR"

# Folders of togethercomputer/RedPajama-Data-1T, as its list of URLs lays them out.
_REDPAJAMA = {
    "arxiv": "arxiv/*.jsonl*",
    "book": "book/*.jsonl*",
    "c4": "c4/*.jsonl*",
    "common_crawl": "common_crawl/**/*.jsonl*",
    "github": "github/*.jsonl*",
    "stackexchange": "stackexchange/*.jsonl*",
    "wikipedia": "wikipedia/*.jsonl*",
}
# Folders of Dolma v1.7.
_DOLMA = (
    "books",
    "c4-filtered",
    "cc_en_head",
    "cc_en_middle",
    "cc_en_tail",
    "cc_news_head",
    "cc_news_middle",
    "cc_news_tail",
    "falcon-refinedweb-filtered",
    "pes2o",
    "proof_pile_2-algebraic_stack",
    "proof_pile_2-open_web_math",
    "reddit",
    "redpajama-arxiv",
    "redpajama-stackexchange",
    "starcoder",
    "tulu_flan",
    "wiki",
    "wikiref_megawika",
)
# Folders of allenai/paloma (arXiv 2312.10523): its sources, whose files are their domains.
_PALOMA = (
    "4chan_meta_sep",
    "c4_100_domains",
    "c4_en",
    "dolma-v1_5",
    "dolma_100_programing_languages",
    "dolma_100_subreddits",
    "falcon-refinedweb",
    "gab",
    "m2d2_s2orc_unsplit",
    "m2d2_wikipedia_unsplit",
    "manosphere_meta_sep",
    "mc4",
    "ptb",
    "redpajama",
    "twitterAAE_HELM_fixed",
    "wikitext_103",
)


@dataclasses.dataclass(frozen=True)
class PublishedCorpus:
    """Files of a published corpus; found when they are read, so that naming one costs nothing.

    Attributes:
      pattern: the files below the data folder.
      origin: where they come from, for people.
      text_field, inputs_field, skip_bad_records: as of `Files`.
      data_dir: the data folder, a path or a URL; the environment variable TRIARCH_DATA_DIR when None.
    """

    pattern: str
    origin: str
    text_field: str = "text"
    inputs_field: str | None = None
    skip_bad_records: bool = False
    data_dir: str | None = None

    def documents(self) -> Iterator[Document | LeftOut]:
        """Yields the documents of all files, as `Files`.

        Raises:
          UserError: no data folder is known, or it does not hold the files.
        """
        return self._files().documents()

    def shards(self) -> list[Files]:
        """Returns the files one by one."""
        return self._files().shards()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return self._files().size

    @property
    def version(self) -> str:
        """As of `Files`."""
        return self._files().version

    def provenance(self) -> dict[str, Any]:
        """Returns the origin and what `Files` says."""
        return {"origin": self.origin, **self._files().provenance()}

    def _files(self) -> Files:
        data_dir = self.data_dir or os.environ.get(DATA_DIR_VARIABLE)
        if not data_dir:
            raise UserError(
                f"{self.origin}: its files are expected at DATA_DIR/{self.pattern}: give the folder with "
                f"--data_dir=DATA_DIR or in the environment variable {DATA_DIR_VARIABLE}"
            )
        pattern = f"{data_dir.rstrip('/')}/{self.pattern}"
        try:
            paths = matching(pattern)
        except UserError:
            raise UserError(f"{pattern}: no such files: download {self.origin} there") from None
        return Files(
            tuple(paths),
            text_field=self.text_field,
            inputs_field=self.inputs_field,
            skip_bad_records=self.skip_bad_records,
        )


def published_corpora() -> dict[str, PublishedCorpus]:
    """Returns the published corpora by the names of their tasks."""
    redpajama = {
        _name("redpajama", source): PublishedCorpus(
            f"redpajama_v1/{pattern}", f"{source!r} of RedPajama V1 (togethercomputer/RedPajama-Data-1T)"
        )
        for source, pattern in _REDPAJAMA.items()
    }
    dolma = {
        _name("dolma", source): PublishedCorpus(
            f"dolma/{source}/*.json.gz", f"{source!r} of Dolma v1.7 (allenai/dolma)"
        )
        for source in _DOLMA
    }
    paloma = {
        _name("paloma", source): PublishedCorpus(
            f"paloma/{source}/val/*.jsonl.gz", f"the validation split of {source!r} of Paloma (allenai/paloma)"
        )
        for source in _PALOMA
    }
    others = {
        "c4_en": PublishedCorpus("c4/en/c4-train.*.json.gz", "the English C4 (allenai/c4)"),
        "wikipedia_en": PublishedCorpus(
            "wikipedia/20231101.en/*.parquet", "the English Wikipedia of 2023-11-01 (wikimedia/wikipedia)"
        ),
        "flan": PublishedCorpus(
            "flan/*.jsonl*", "the FLAN collection (lines of 'inputs' and 'targets')", "targets", "inputs"
        ),
    }
    return redpajama | others | dolma | paloma


def _name(corpus: str, source: str) -> str:
    """Returns a name that SeqIO takes."""
    return f"{corpus}_{source.replace('-', '_')}"
