import { float64, text } from '../table/columns.ts';
import { PackedRows } from '../table/packed-rows.ts';

/** The revision of each name's last change, of many names. A revision is a number here: it stays far below 2⁵³. */
export class Revisions {
  readonly #rows = new PackedRows<{ readonly name: string; readonly revision: number }>({
    keyOf: row => row.name,
    columns: { name: text, revision: float64 },
  });

  get size(): number {
    return this.#rows.size;
  }

  get(name: string): bigint | undefined {
    const found = this.#rows.get(name);
    return found && BigInt(found.revision);
  }

  set(name: string, revision: bigint): void {
    this.#rows.set(name, { name, revision: Number(revision) }, this.#rows.get(name));
  }

  /** False where it was not there. */
  delete(name: string): boolean {
    const found = this.#rows.get(name);
    if (found) this.#rows.delete(name, found);
    return found !== undefined;
  }

  names(): IterableIterator<string> {
    return this.#rows.keys();
  }
}
