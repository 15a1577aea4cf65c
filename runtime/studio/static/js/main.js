import { html, render } from "../vendor/htm-preact-standalone.js";
import { App } from "./app.js";

render(html`<${App} />`, document.getElementById("app"));
