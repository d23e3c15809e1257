// @ts-check
/** Somebody who has not been there before, to fill the form with. */

import { randomId } from "./random.js";

const FIRST = ["ada", "alan", "anita", "barbara", "edsger", "grace", "hedy", "katherine", "niklaus", "radia"];

export function somebodyNew() {
  const id = randomId();
  const username = `${FIRST[parseInt(id.slice(0, 4), 16) % FIRST.length]}-${id.slice(4, 10)}`;
  return { username, email: `${username}@example.org`, password: id.slice(10, 26) };
}
