// @ts-check
/** Two people on one page: each with an account, a connection and a view of the same session. */

import { Pane } from "./pane.js";

const root = new URL("api/v1/", document.baseURI);
const template = /** @type {HTMLTemplateElement} */ (document.getElementById("pane"));
const start = /** @type {HTMLButtonElement} */ (document.getElementById("start"));
const tools = /** @type {HTMLInputElement} */ (document.getElementById("tools"));
const problem = /** @type {HTMLElement} */ (document.getElementById("problem"));
const panes = ["A", "B"].map((letter) => new Pane(letter, template, root));
const [first, second] = panes;

async function begin() {
  await Promise.all(panes.map((pane) => pane.signIn()));
  const wanted = tools.value.split(/[\s,]+/).filter(Boolean);
  const session = await first.api.startSession(`${first.user.username} and ${second.user.username}`, wanted);
  first.enter(session.id);
  await first.api.addParticipant(session.id, second.user.id);
  second.enter(session.id);
}

function name() {
  start.textContent = panes.every((pane) => pane.user) ? "Start a new session" : "Sign both in and start";
}

start.addEventListener("click", async () => {
  start.disabled = true;
  problem.textContent = "";
  try {
    await begin();
  } catch (error) {
    problem.textContent = error.message;
  } finally {
    start.disabled = false;
  }
});

for (const pane of panes) {
  pane.onSignedIn = name;
  document.getElementById("panes")?.append(pane.element);
}
