"""What the documents tell is true of the chart and of the gateway's settings."""

import json
import re
import unittest
from typing import Iterator

import configuration
import gateway
import yaml

from support import CHART, CONFIGURATION, REPOSITORY, template

KUBERNETES = REPOSITORY / "docs" / "kubernetes.md"
PAGES = [KUBERNETES, REPOSITORY / "docs" / "operations.md", CHART / "README.md"]


class Documents(unittest.TestCase):
    """Values and settings by name, in prose and in examples."""

    def test_every_example_of_values_renders(self) -> None:
        blocks = list(examples())
        self.assertGreater(len(blocks), 8)
        for page, block in blocks:
            with self.subTest(page, begins=block[:60]):
                result = template(block, "1.34.0", "--set", "skipApiChecks=true")
                self.assertEqual(result.returncode, 0, result.stderr)
                checked = gateway.check([manifest for manifest in yaml.safe_load_all(result.stdout) if manifest])
                self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)

    def test_examples_of_clouds_are_scenarios(self) -> None:
        scenarios = [yaml.safe_load(path.read_text()) for path in (CHART / "ci").glob("*.yaml")]
        told = [block for page, block in examples() if page == KUBERNETES.name and yaml.safe_load(block) in scenarios]
        # GKE, EKS, AKS, k3s: what is told is what is tested.
        self.assertGreaterEqual(len(told), 4)

    def test_values_in_the_text_exist(self) -> None:
        schema = json.loads((CHART / "values.schema.json").read_text())
        names = schema["properties"].keys() - {"global", "annotations"}
        for page in PAGES:
            for path in re.findall(rf"`(?!service\.beta|users\.toml)((?:{'|'.join(sorted(names))})(?:\.[A-Za-z_]\w*)+)", page.read_text()):
                with self.subTest(page.name, value=path):
                    # `passive.first` is a value, `passive.address` a setting.
                    self.assertTrue(exists(schema, path.split(".")) or exists(schema, ["config", *path.split(".")]), path)

    def test_settings_in_the_guide_to_migrating_exist(self) -> None:
        sections = configuration.sections(CONFIGURATION.read_text())
        ours = [cell for row in rows((REPOSITORY / "docs" / "migrating.md").read_text()) for cell in row[1:]]
        named = [match for cell in ours for match in re.findall(rf"`({'|'.join(sections)})\.(\w+)", cell)]
        self.assertGreater(len(named), 50)
        for section, setting in named:
            with self.subTest(f"{section}.{setting}"):
                self.assertIn(setting, sections[section])

    def test_links_between_documents_lead_somewhere(self) -> None:
        pages = [page for page in REPOSITORY.rglob("*.md") if not {"target", "node_modules", "source"} & set(page.parts)]
        for page in pages:
            for link in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", without_code(page.read_text())):
                path, _, anchor = link.partition("#")
                goal = (page.parent / path).resolve() if path else page
                with self.subTest(page.name, link=link):
                    self.assertTrue(goal.exists())
                    self.assertTrue(not anchor or anchor in anchors(goal.read_text()))


def anchors(text: str) -> set[str]:
    """What links into a page can name: its titles, as forges write them."""
    titles = re.findall(r"^#+ (.*)$", without_code(text), re.M)
    return {re.sub(r"[^\w -]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)).strip().lower().replace(" ", "-") for title in titles}


def without_code(text: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)


def examples() -> Iterator[tuple[str, str]]:
    """The YAML blocks, each a set of values."""
    for page in (KUBERNETES, CHART / "README.md"):
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.S):
            yield page.name, block


def exists(schema: dict, path: list[str]) -> bool:
    """Whether there is such a value; what the API or the operator names counts."""
    if not path or "properties" not in schema:
        return True
    return path[0] in schema["properties"] and exists(schema["properties"][path[0]], path[1:])


def rows(text: str) -> Iterator[list[str]]:
    """The cells of all tables."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split("|")]
