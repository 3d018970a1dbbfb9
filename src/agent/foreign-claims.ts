import { nearInside } from '../clustermesh/rows.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';
import type { RemoteAddress } from './ipcache.ts';
import type { PodRange } from './pod-ranges.ts';

/** An address that another cluster names as its own and that is not believed. */
export interface ForeignClaim {
  readonly cluster: string;
  readonly prefix: string;
  readonly why: string;
}

/**
 * Judges what other clusters say of addresses, once for each change, as the ipcache is derived; what is not believed
 * is a table of its own, which is empty in a mesh where everybody is honest.
 */
export class ForeignClaims {
  readonly #whyForeign: (claim: RemoteAddress) => string | undefined;
  readonly #table = new Table<ForeignClaim>({
    name: 'foreign-claims',
    keyOf: row => `${row.cluster} ${row.prefix}`,
    indexes: { prefix: row => [row.prefix] },
    equal: (a, b) => a.why === b.why,
  });

  /** `whyForeign`: undefined where a claim is believed. */
  constructor(whyForeign: (claim: RemoteAddress) => string | undefined) {
    this.#whyForeign = whyForeign;
  }

  get table(): ReadonlyTable<ForeignClaim> {
    return this.#table;
  }

  /** The first of all claims of a prefix that is believed. */
  believed(prefix: string, claims: Iterable<RemoteAddress>): RemoteAddress | undefined {
    let believed: RemoteAddress | undefined;
    const refused: ForeignClaim[] = [];
    for (const claim of claims) {
      const why = this.#whyForeign(claim);
      if (why === undefined) believed ??= claim;
      else refused.push({ cluster: claim.cluster, prefix, why });
    }
    if (refused.length || this.#table.size) this.#replace(prefix, refused);
    return believed;
  }

  #replace(prefix: string, refused: readonly ForeignClaim[]): void {
    const keys = new Set(refused.map(this.#table.keyOf));
    for (const row of [...this.#table.by('prefix', prefix)]) {
      const key = this.#table.keyOf(row);
      if (!keys.has(key)) this.#table.delete(key);
    }
    for (const row of refused) this.#table.upsert(row);
  }
}

/**
 * Prefixes of remote addresses that may be judged otherwise when a pod range comes or goes: those inside it. `remote`
 * has the index `near`.
 */
export function* touchedBy({ prefix }: PodRange, remote: ReadonlyTable<RemoteAddress>): Generator<string> {
  const near = nearInside(prefix);
  if (!near) for (const each of remote.values()) yield each.prefix;
  else for (const name of near) for (const each of remote.by('near', name)) yield each.prefix;
}
