"""The report in a real browser: nothing overflows at the width of a phone, a desktop or a sheet of paper, nothing is logged,
loaded or run, and what an attacker wrote into a name or a title stays text.

The pages are those of `shared/decide/src/report/pages.rs`, of runs of every kind in both languages, and reports of real runs on
the local AWS. Pages that do what they must not show that each look finds it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/browser")]
from browser import Browser, install  # noqa: E402

WIDTHS = (360, 1280)
# The printable width of A4 with the margins of the page's own style, in CSS pixels (96 to the inch).
PAPER = 688
LANGUAGES = ("en", "ja")
KINDS = (
    "contained pending partial unverified dry-run released rejected release-partial approved not-approved unasked no-report hostile"
).split()
HOSTILE_NAME = "<script>document.title='owned'</script>\"'&\u202egnp.exe " + "A" * 150
# What a page looks like: what is wider than the screen, what is hidden, which texts of the picture are over another.
LOOK = """(() => {
  const wide = [], over = [];
  for (const element of document.body.querySelectorAll('*')) {
    if (element.closest('.scroll') && !element.matches('.scroll')) continue;
    const box = element.getBoundingClientRect();
    if (box.width && (box.right > innerWidth + 0.5 || box.left < -0.5)) wide.push(element.outerHTML.slice(0, 120));
  }
  for (const svg of document.querySelectorAll('svg')) {
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
    texts.forEach(([words, a], at) => {
      if (a.left < frame.left - 1 || a.right > frame.right + 1 || a.top < frame.top - 1 || a.bottom > frame.bottom + 1)
        over.push(words + ' is out of the picture');
      for (const [others, b] of texts.slice(at + 1))
        if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 0.5 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 0.5)
          over.push(words + ' is over ' + others);
    });
  }
  return { scroll: document.documentElement.scrollWidth, inner: innerWidth, wide, over, title: document.title,
    scripts: document.querySelectorAll('script, iframe, object, embed, img, link, form, base').length,
    handlers: [...document.querySelectorAll('*')].filter(e => e.getAttributeNames().some(name => name.startsWith('on'))).length,
    language: document.documentElement.lang, heading: document.querySelector('h1')?.textContent,
    headings: document.querySelectorAll('h1').length, styled: getComputedStyle(document.body).margin, text: document.body.innerText };
})()"""


def setUpModule() -> None:
    if not install():
        raise unittest.SkipTest("no browser can be had here (Debian: chromium, chromium-driver)")


class Case(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory(prefix="pages-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.browser = Browser()
        cls.browser.__enter__()
        cls.addClassCleanup(cls.browser.__exit__)

    def problems(self, page: Path, width: int, paper: bool = False, dark: bool = False) -> tuple[list[str], dict]:
        """Everything that is wrong with a page, and how it looks."""
        self.browser.look(width, paper=paper, dark=dark)
        self.browser.open(page)
        look = self.browser.evaluate(LOOK)
        wrong = [f"wider than the screen: {element}" for element in look["wide"]] + look["over"]
        if look["inner"] != width or look["scroll"] > look["inner"]:
            wrong.append(f"{look['scroll']} px wide on a screen of {look['inner']}")
        if look["scripts"] or look["handlers"]:
            wrong.append(f"{look['scripts']} elements that load or run something, {look['handlers']} with handlers")
        wrong += [f"logged: {entry['level']} {entry['message']}" for entry in self.browser.logs("browser")]
        for event in self.browser.events():
            given = event.get("params", {})
            if event["method"] == "Network.requestWillBeSent" and given["request"]["url"] != page.as_uri():
                wrong.append(f"requested: {given['request']['url']}")
            if event["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Page.javascriptDialogOpening"):
                wrong.append(f"{event['method']}: {json.dumps(given)[:300]}")
        return wrong, look


class PagesOfEveryKind(Case):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        # The unit test that makes them; everything is built already where all suites run.
        command = ["cargo", "test", "--quiet", "--locked", "--workspace", "--lib", "pages_are_written"]
        environment = {**os.environ, "STASIS_REPORT_PAGES": str(cls.folder)}
        made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if made.returncode:
            raise RuntimeError(f"the pages could not be made:\n{made.stdout[-2000:]}{made.stderr[-2000:]}")

    def page(self, kind: str, language: str) -> Path:
        return self.folder / f"{kind}.{language}.html"

    def test_every_page_that_there_is_is_looked_at(self) -> None:
        made = sorted(file.name for file in self.folder.glob("*.html"))
        self.assertEqual(made, sorted(f"{kind}.{language}.html" for kind in KINDS for language in LANGUAGES))

    def test_nothing_overflows_and_nothing_is_logged_loaded_or_run(self) -> None:
        for kind in KINDS:
            for language in LANGUAGES:
                for width in WIDTHS:
                    with self.subTest(kind=kind, language=language, width=width):
                        wrong, look = self.problems(self.page(kind, language), width)
                        self.assertEqual(wrong, [])
                        self.assertEqual((look["language"], look["headings"]), (language, 1))
                        self.assertEqual(look["styled"], "0px", "its own policy lets its own style in")
                        self.assertTrue(look["title"].startswith("Stasis: ") and look["heading"] in look["title"], look["title"])

    def test_the_dark_page_is_as_whole(self) -> None:
        for language in LANGUAGES:
            wrong, _ = self.problems(self.page("partial", language), 360, dark=True)
            self.assertEqual(wrong, [])
            background = self.browser.evaluate("getComputedStyle(document.body).backgroundColor")
            self.assertNotEqual(background, "rgb(255, 255, 255)")

    def test_printed_nothing_is_cut_off(self) -> None:
        for kind in KINDS:
            for language in LANGUAGES:
                with self.subTest(kind=kind, language=language):
                    wrong, _ = self.problems(self.page(kind, language), PAPER, paper=True)
                    # Nobody scrolls on paper.
                    cut = self.browser.evaluate(
                        "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).length"
                    )
                    self.assertEqual((wrong, cut), ([], 0))
                    pdf = self.browser.pdf()
                    self.assertTrue(pdf.startswith(b"%PDF-") and pdf.rstrip().endswith(b"%%EOF"))
                    self.assertGreaterEqual(pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page "), 2, "pages")

    def test_what_an_attacker_wrote_is_seen_as_text(self) -> None:
        texts = json.loads((self.folder / "hostile.json").read_text())
        self.assertEqual(len(texts), 6)
        for language in LANGUAGES:
            for width in WIDTHS:
                _, look = self.problems(self.page("hostile", language), width)
                self.assertNotIn("owned", look["title"])
                for text in texts:
                    self.assertGreaterEqual(look["text"].count(text), 20, text)
                self.assertNotIn("\u202e", look["text"])

    def test_the_words_at_the_top_are_those_of_the_run(self) -> None:
        said = {
            ("contained", "en"): ("Contained", "cut off from the network: +"),
            ("contained", "ja"): ("封じ込め完了", "ネットワーク遮断：+"),
            ("partial", "en"): ("Partial: NOT cut off from the network", "preserve did not run"),
            ("partial", "ja"): ("一部未完了：ネットワークから遮断されていません", "ディスク保全が実行されませんでした"),
            ("dry-run", "en"): ("Dry run: nothing was changed", "actions planned"),
            ("dry-run", "ja"): ("ドライラン：何も変更していません", "件の操作を計画しました"),
            ("released", "en"): ("Released", "The evidence stays under Object Lock"),
            ("released", "ja"): ("封じ込め解除済み", "オブジェクトロックで保護されます"),
        }
        for (kind, language), (heading, within) in said.items():
            _, look = self.problems(self.page(kind, language), 1280)
            pictured = self.browser.evaluate("[...document.querySelectorAll('svg text')].map(t => t.textContent).join('\\n')")
            self.assertEqual(look["heading"], heading)
            self.assertIn(within, look["text"] + pictured)


class PagesOfRealRuns(Case):
    """The functions themselves on the local AWS: an instance with a hostile name is contained and released."""

    def test_reports_of_real_runs(self) -> None:
        binaries = os.environ.get("STASIS_BINARIES")
        if not binaries:
            self.skipTest("STASIS_BINARIES names no folder of functions")
        from local import stack
        from local.plant import plant

        for language in LANGUAGES:
            state = self.folder / f"aws-{language}"
            with stack.LocalAws(state, binaries=Path(binaries), wait_scale=0.05) as aws:
                aws.start()
                aws.deploy(report_language=language)
                planted = plant(aws.client, aws.region, name=HOSTILE_NAME)
                request = {"instanceId": planted["instanceId"], "reason": HOSTILE_NAME, "ticket": "INC-7"}
                # The word of the dry run first: it leaves the instance as it is.
                runs = [("DRY_RUN", "ContainStateMachineArn", {**request, "mode": "dry-run"})]
                runs.append(("CONTAINED", "ContainStateMachineArn", request))
                for status, machine, given in runs:
                    output = self.run_to_its_end(aws, machine, given)
                    self.look_at(aws, output, status, language)
                undo = {"caseId": output["caseId"], "reason": HOSTILE_NAME}
                self.look_at(aws, self.run_to_its_end(aws, "ReleaseStateMachineArn", undo), "RELEASED", language)

    def run_to_its_end(self, aws, machine: str, given: dict) -> dict:
        states = aws.client("stepfunctions")
        arn = states.start_execution(stateMachineArn=aws.outputs[machine], input=json.dumps(given))["executionArn"]
        deadline = time.monotonic() + 120
        while True:
            execution = states.describe_execution(executionArn=arn)
            if execution["status"] != "RUNNING":
                break
            self.assertLess(time.monotonic(), deadline, "the run does not end")
            time.sleep(0.1)
        self.assertEqual(execution["status"], "SUCCEEDED", execution.get("cause"))
        return json.loads(execution["output"])

    def look_at(self, aws, output: dict, status: str, language: str) -> None:
        with self.subTest(status=status, language=language):
            self.assertEqual(output["status"], status, output["reason"])
            bucket, key = output["report"].removeprefix("s3://").split("/", 1)
            page = self.folder / f"{status}.{language}.html"
            page.write_bytes(aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
            for width in WIDTHS:
                wrong, look = self.problems(page, width)
                self.assertEqual(wrong, [])
                self.assertEqual(look["language"], language)
                self.assertIn(HOSTILE_NAME.replace("\u202e", "[U+202E]"), look["text"])
            self.assertTrue(self.browser.pdf().startswith(b"%PDF-"))


class LooksFindWhatIsWrong(Case):
    """Each look at a page that does what it must not."""

    def found(self, body: str, policy: str = "") -> str:
        page = self.folder / "wrong.html"
        meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">' if policy else ""
        page.write_text(f"<!DOCTYPE html><html><head><meta charset=utf-8>{meta}<title>t</title></head><body>{body}</body></html>")
        wrong, _ = self.problems(page, 360)
        return "\n".join(wrong)

    def test_a_page_with_nothing_wrong(self) -> None:
        self.assertEqual(self.found("<p>text</p><svg viewBox='0 0 300 60'><text y=20>one</text><text y=50>other</text></svg>"), "")

    def test_what_is_too_wide(self) -> None:
        self.assertIn("wider than the screen", self.found("<div style='width: 400px'>wide</div>"))
        self.assertIn("px wide on a screen of 360", self.found("<p>" + "A" * 200))
        scrolling = "<div class=scroll style='overflow-x: auto'><div style='width: 900px'>may scroll</div></div>"
        self.assertEqual(self.found(scrolling), "")

    def test_what_runs_and_logs(self) -> None:
        self.assertIn("logged: ", self.found("<script>console.warn('here')</script>"))
        self.assertIn("logged: SEVERE", self.found("<script>throw new Error('x')</script>"))
        refused = self.found("<script>1</script>", "default-src 'none'")
        self.assertIn("Content Security Policy", refused)
        self.assertIn("elements that load or run", refused)
        self.assertIn("1 with handlers", self.found("<p onclick='1'>text</p>"))

    def test_what_is_loaded(self) -> None:
        (self.folder / "picture.png").write_bytes(b"")
        self.assertIn("requested: file://", self.found("<img src=picture.png alt=''>"))
        self.assertIn("requested: http://127.0.0.1:9/", self.found("<div style='background: url(http://127.0.0.1:9/)'>x</div>"))

    def test_texts_over_each_other(self) -> None:
        self.assertIn("one is over other", self.found("<svg viewBox='0 0 300 60'><text y=20>one</text><text y=24>other</text></svg>"))
        self.assertIn("out of the picture", self.found("<svg viewBox='0 0 300 60'><text x=290 y=20>a long text</text></svg>"))


def main() -> int:
    result = unittest.main(module="__main__", argv=[sys.argv[0], *sys.argv[1:]], exit=False).result
    failed, skipped = len(result.failures) + len(result.errors), len(result.skipped)
    print(f"browser: {max(result.testsRun - failed - skipped, 0)} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
