/**
 * Hands out ids 1..2³²-1 that are not used. Given-back ids come round again only after all others, so that a stale
 * row or connection that still names one does not soon mean something else.
 */
export class IdPool {
  readonly #isUsed: (id: number) => boolean;
  #last = 0;

  /** Who asks for an id remembers it: so it is known once. */
  constructor(isUsed: (id: number) => boolean) {
    this.#isUsed = isUsed;
  }

  /** Continues after an id found outside. */
  adopt(id: number): void {
    if (id > this.#last) this.#last = id;
  }

  allocate(): number {
    do this.#last = this.#last >= 0xffff_ffff ? 1 : this.#last + 1;
    while (this.#isUsed(this.#last));
    return this.#last;
  }
}
