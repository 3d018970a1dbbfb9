import { nearOf } from '../clustermesh/rows.ts';
import { derive, input } from '../table/derive.ts';
import type { ReadonlyTable } from '../table/table.ts';
import type { RemoteAddress } from './ipcache.ts';
import type { PodRange } from './pod-ranges.ts';

/** An address that another cluster names as its own and that is not believed. */
export interface ForeignClaim {
  readonly cluster: string;
  readonly prefix: string;
  readonly why: string;
}

export interface ForeignClaimsInputs {
  /** With the indexes `prefix` and `near`. */
  readonly remote: ReadonlyTable<RemoteAddress>;
  readonly whyForeign: (claim: RemoteAddress) => string | undefined;
  /** Pod ranges of all clusters, which `whyForeign` looks at. */
  readonly ranges: ReadonlyTable<PodRange>;
}

/** What the ipcache leaves out of what other clusters say; empty in a mesh where everybody is honest. */
export function deriveForeignClaims(inputs: ForeignClaimsInputs): ReadonlyTable<ForeignClaim> {
  const { remote, whyForeign, ranges } = inputs;
  return derive<ForeignClaim>({
    name: 'foreign-claims',
    keyOf: row => `${row.cluster} ${row.prefix}`,
    equal: (a, b) => a.why === b.why,
    inputs: [input(remote, row => [row.prefix]), input(ranges, row => touchedBy(row, remote))],
    *compute(prefix) {
      for (const each of remote.by('prefix', prefix)) {
        const why = whyForeign(each);
        if (why !== undefined) yield { cluster: each.cluster, prefix, why };
      }
    },
  });
}

/** Prefixes of remote addresses that may be judged otherwise when a pod range comes or goes. */
export function* touchedBy({ prefix }: PodRange, remote: ReadonlyTable<RemoteAddress>): Generator<string> {
  const near = nearOf(prefix);
  // Ranges are smaller than what is near almost everywhere.
  for (const each of near === prefix ? remote.values() : remote.by('near', near)) yield each.prefix;
}
