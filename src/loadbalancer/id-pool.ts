/**
 * Hands out ids 1..2³²-1. Given-back ids come round again only after all others, so that a stale
 * row or connection that still names one does not soon mean something else.
 */
export class IdPool {
  readonly #used = new Set<number>();
  #last = 0;

  /** Marks an id found outside as used, and continues after it. */
  adopt(id: number): void {
    this.#used.add(id);
    if (id > this.#last) this.#last = id;
  }

  allocate(): number {
    do this.#last = this.#last >= 0xffff_ffff ? 1 : this.#last + 1;
    while (this.#used.has(this.#last));
    this.#used.add(this.#last);
    return this.#last;
  }

  release(id: number): void {
    this.#used.delete(id);
  }
}
