"""Snakemake's own report: captions, categories, figures."""

from copies import Copy


def test_snakemake_makes_its_own_report(copy: Copy) -> None:
    page = copy.folder / "page.html"
    copy.run("snakemake", "--configfile", str(copy.study_file), "--report", str(page))
    text = page.read_text(encoding="utf-8")
    for caption in ("Points gained over", "Gain of each recipe over", "zero-shot cross-lingual"):
        assert caption in text
    for category in ("Tables", "Figures", "Questions", "Report"):
        assert f'"{category}"' in text
