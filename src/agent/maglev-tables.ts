import { maglevTable } from '../loadbalancer/maglev.ts';

/** What is needed of the map of tables. */
export interface TableStore {
  keys(): number[];
  set(key: number, numbers: Uint32Array): Promise<void>;
  delete(key: number): Promise<void>;
}

/** A backend by the name all nodes know it by, and by the id it has here. */
export interface MaglevBackend {
  readonly name: string;
  readonly id: number;
  /** Its part of the entries, relative to the others': a whole number. Default 1. */
  readonly weight?: number;
}

export interface MaglevTablesOptions {
  readonly store: TableStore;
  /** Entries of a table: a prime. */
  readonly size: number;
  readonly onError: (error: Error) => void;
  /** Milliseconds until what could not be written is tried again. */
  readonly retry?: number;
}

/**
 * Keeps the Maglev tables of services, one after the other, each in a turn of the event loop of its own. A table
 * may lag behind its service: its readers look whether a backend is still there, and choose at random where it is not.
 */
export class MaglevTables {
  readonly #options: MaglevTablesOptions;
  readonly #wanted = new Map<number, readonly MaglevBackend[] | undefined>();
  #working: Promise<void> | undefined;

  constructor(options: MaglevTablesOptions) {
    this.#options = options;
  }

  /** Services with a table, from an earlier agent too. */
  services(): number[] {
    return this.#options.store.keys();
  }

  /** undefined: without a table from now on. */
  want(service: number, backends: readonly MaglevBackend[] | undefined): void {
    this.#wanted.set(service, backends?.length ? backends : undefined);
    this.#working ??= this.#work();
  }

  /** Resolves when everything wanted has been tried. */
  async whenQuiet(): Promise<void> {
    while (this.#working) await this.#working;
  }

  async #work(): Promise<void> {
    const { store, size, onError, retry = 5000 } = this.#options;
    await new Promise(resolve => setImmediate(resolve));
    for (const [service, backends] of this.#wanted) {
      this.#wanted.delete(service);
      try {
        if (backends) {
          const table = maglevTable(
            backends.map(each => each.name),
            size,
            backends.map(each => each.weight ?? 1),
          );
          await store.set(
            service,
            table.map(at => backends[at]!.id),
          );
        } else await store.delete(service);
      } catch (error) {
        onError(error instanceof Error ? error : new Error(String(error)));
        setTimeout(() => {
          if (!this.#wanted.has(service)) this.want(service, backends);
        }, retry).unref();
      }
      await new Promise(resolve => setImmediate(resolve));
    }
    this.#working = undefined;
  }
}
