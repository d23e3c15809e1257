// @ts-check

/**
 * An element with attributes, listeners (`onclick: …`) and children. Strings become text and never markup: this is the
 * one way in which the page makes elements.
 *
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node | string)} children
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** @param {string} isoTime */
export function clockTime(isoTime) {
  const time = new Date(isoTime);
  const text = time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return element("time", { datetime: isoTime, title: time.toLocaleString() }, text);
}
