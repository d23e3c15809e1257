// @ts-check
/** Files of a message. Their bytes need a credential, so they are fetched, and shown from memory. */

import { element } from "./elements.js";

/** Pictures that cannot hold a script. Everything else is offered as a download, never opened. */
const PICTURES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);

export class Attachments {
  element = element("div", { class: "attachments" });
  #fetch;
  #shown = "";

  /** @param {(attachmentId: string) => Promise<Blob>} fetch */
  constructor(fetch) {
    this.#fetch = fetch;
  }

  /** @param {{ id: string, name: string, content_type: string, size_bytes: number }[]} attachments */
  draw(attachments) {
    const ids = attachments.map(({ id }) => id).join();
    if (ids === this.#shown) return;
    this.#shown = ids;
    this.element.replaceChildren(
      ...attachments.map((file) => (PICTURES.has(file.content_type) ? this.#picture(file) : this.#download(file))),
    );
  }

  #picture({ id, name }) {
    const picture = /** @type {HTMLImageElement} */ (element("img", { alt: name, title: name }));
    this.#fetch(id).then(
      (bytes) => {
        picture.src = URL.createObjectURL(bytes);
        picture.onload = () => URL.revokeObjectURL(picture.src);
      },
      () => picture.replaceWith(`${name} could not be loaded`),
    );
    return picture;
  }

  #download({ id, name, size_bytes: size }) {
    const onclick = async () => {
      const href = URL.createObjectURL(await this.#fetch(id));
      element("a", { href, download: name }).click();
      URL.revokeObjectURL(href);
    };
    return element("button", { type: "button", onclick }, `${name} (${Math.ceil(size / 1024)} KiB)`);
  }
}
