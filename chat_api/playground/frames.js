// @ts-check
/** The raw frames of a connection, for whoever writes a client. */

import { element } from "./elements.js";

const KEPT = 300;

export class FrameLog {
  #list;
  #count;
  #total = 0;

  /** @param {HTMLElement} details */
  constructor(details) {
    this.#list = details.querySelector("ol");
    this.#count = details.querySelector(".count");
    details.querySelector("button").addEventListener("click", () => this.#list.replaceChildren());
  }

  /** @param {"sent" | "received"} direction @param {any} frame */
  add(direction, frame) {
    this.#total += 1;
    this.#count.textContent = String(this.#total);
    const summary = [frame.event_seq ? `#${frame.event_seq}` : "", frame.type].join(" ").trim();
    const body = element("pre");
    // Written when somebody looks: most frames are never opened.
    const ontoggle = () => (body.textContent ||= JSON.stringify(frame, null, 2));
    const title = element("summary", {}, `${direction === "sent" ? "↑" : "↓"} ${summary}`);
    this.#list.append(element("li", { class: direction }, element("details", { ontoggle }, title, body)));
    if (this.#list.childElementCount > KEPT) this.#list.firstElementChild.remove();
    this.#list.scrollTop = this.#list.scrollHeight;
  }
}
