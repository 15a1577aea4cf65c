"""The picture of docs/studio.md: ``python examples/studio_picture.py -o docs/studio.png``.

Opens the studio's page in a browser (Playwright and a Chromium), clicks a place of a photo and
chooses a colour, as a person does.
"""

from __future__ import annotations

import argparse
import shutil
import threading
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photo", nargs="?", default=str(HERE / "astronaut-grey.jpg"))
    parser.add_argument("-o", "--output", default="studio.png")
    parser.add_argument("--at", default="0.36,0.62", help="where to click, shares of the photo")
    parser.add_argument("--color", default="#c8641e")
    args = parser.parse_args()

    import uvicorn
    from playwright.sync_api import sync_playwright

    from runtime import Colorizer
    from runtime.studio import make_app
    from runtime.studio.__main__ import listen

    listener = listen("127.0.0.1", 0)
    app = make_app(Colorizer(backend="onnxruntime"), files=[Path(args.photo)])
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with sync_playwright() as play:
            browser = play.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page(viewport={"width": 1120, "height": 700})
            page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}/")
            page.wait_for_selector("img.result")
            box = page.locator("img.layer").first.bounding_box()
            x, y = map(float, args.at.split(","))
            page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
            page.wait_for_selector(".picker .swatches button")
            page.fill(".hex", args.color)
            page.locator(".plane").focus()
            page.wait_for_selector("main[aria-busy=false]")
            page.wait_for_timeout(400)
            page.screenshot(path=args.output)
            browser.close()
    finally:
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    main()
