/** Texts that are kept. */
const KEPT = 1000;

/**
 * One object for each text that means one, where few texts come over and over: whoever compares two finds the same object.
 * When there are too many all are forgotten, and made anew as they come.
 */
export class Interned<Value> {
  readonly #known = new Map<string, Value>();

  /** What `make` throws is thrown, and nothing is kept. */
  of(text: string, make: () => Value): Value {
    const found = this.#known.get(text);
    if (found !== undefined) return found;
    const made = make();
    if (this.#known.size >= KEPT) this.#known.clear();
    this.#known.set(text, made);
    return made;
  }
}
