/** What has been added under a hash, in the order it came: numbers of rows, outside the garbage collector's heap. */
export class SlotIndex {
  /** Of each bucket the first and the last entry, plus one; 0: none. Their number is a power of two. */
  #heads = new Uint32Array(SMALLEST);
  #tails = new Uint32Array(SMALLEST);
  /** Of each entry. */
  #hashes = new Uint32Array(SMALLEST);
  #slots = new Uint32Array(SMALLEST);
  /** The entry after it in its bucket, or of those that are free, plus one. */
  #next = new Uint32Array(SMALLEST);
  #used = 0;
  #free = 0;

  add(hash: number, slot: number): void {
    let entry = this.#free - 1;
    if (entry >= 0) this.#free = this.#next[entry]!;
    else {
      if (this.#used === this.#slots.length) this.#grow();
      entry = this.#used++;
    }
    this.#hashes[entry] = hash;
    this.#slots[entry] = slot;
    this.#append(entry);
  }

  /** Takes back one `add`. */
  remove(hash: number, slot: number): void {
    const bucket = hash & (this.#heads.length - 1);
    let before = 0;
    for (let at = this.#heads[bucket]!; at !== 0; before = at, at = this.#next[at - 1]!) {
      const entry = at - 1;
      if (this.#slots[entry] !== slot || this.#hashes[entry] !== hash) continue;
      const after = this.#next[entry]!;
      if (before === 0) this.#heads[bucket] = after;
      else this.#next[before - 1] = after;
      if (after === 0) this.#tails[bucket] = before;
      this.#next[entry] = this.#free;
      this.#free = at;
      return;
    }
  }

  /** The first slot of a hash that is the one looked for: different texts may have one hash. -1: there is none. */
  find(hash: number, matches: (slot: number) => boolean): number {
    for (let at = this.#heads[hash & (this.#heads.length - 1)]!; at !== 0; at = this.#next[at - 1]!)
      if (this.#hashes[at - 1] === hash && matches(this.#slots[at - 1]!)) return this.#slots[at - 1]!;
    return -1;
  }

  all(hash: number): readonly number[] {
    let found: number[] | undefined;
    for (let at = this.#heads[hash & (this.#heads.length - 1)]!; at !== 0; at = this.#next[at - 1]!)
      if (this.#hashes[at - 1] === hash) {
        if (found) found.push(this.#slots[at - 1]!);
        else found = [this.#slots[at - 1]!];
      }
    return found ?? none;
  }

  #append(entry: number): void {
    const bucket = this.#hashes[entry]! & (this.#heads.length - 1);
    const last = this.#tails[bucket]!;
    if (last === 0) this.#heads[bucket] = entry + 1;
    else this.#next[last - 1] = entry + 1;
    this.#tails[bucket] = entry + 1;
    this.#next[entry] = 0;
  }

  /** Called when no entry is free. */
  #grow(): void {
    const heads = this.#heads;
    const next = this.#next;
    const length = next.length * 2;
    this.#heads = new Uint32Array(length);
    this.#tails = new Uint32Array(length);
    this.#next = new Uint32Array(length);
    this.#hashes = longer(this.#hashes, length);
    this.#slots = longer(this.#slots, length);
    // Bucket by bucket, so that entries of one hash keep their order.
    for (let at of heads) for (; at !== 0; at = next[at - 1]!) this.#append(at - 1);
  }
}

const SMALLEST = 16;
const none: readonly number[] = [];

/** An array of another length with what was in it; the old one is of no use any more. */
export function longer(array: Uint32Array<ArrayBuffer>, length: number): Uint32Array<ArrayBuffer> {
  return new Uint32Array(array.buffer.transfer(length * Uint32Array.BYTES_PER_ELEMENT));
}

/** Another one in each process: nobody outside can choose texts that all have one hash. */
const seed = crypto.getRandomValues(new Uint32Array(1))[0]!;

/** 32 bits of a text (FNV-1a, mixed once more). */
export function hashOf(text: string): number {
  let hash = seed;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x0100_0193);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b_3c6d);
  return (hash ^ (hash >>> 13)) >>> 0;
}
