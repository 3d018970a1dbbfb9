/**
 * What is left over in the cluster. Pure: everything is judged from tables and the time, and nothing goes at
 * first sight.
 */
import type { EndpointObjectRow } from '../api/crds/cilium-endpoint.ts';
import type { IdentityRow } from '../api/crds/cilium-identity.ts';

/** What is to be done with identity objects in one round. */
export interface IdentityVerdict {
  /** Newly found unused: to be marked with the time. */
  readonly mark: readonly IdentityRow[];
  /** Marked, but used again. */
  readonly unmark: readonly IdentityRow[];
  /** Unused since the timeout or longer. */
  readonly remove: readonly IdentityRow[];
  readonly alive: number;
}

/**
 * Judges the identities in `range` (a mesh's other clusters' are none of ours). The mark is kept in the
 * object, so a new leader goes on where the old one was.
 * @param timeout ms an identity must have been unused
 * @param now ms since the epoch
 */
export function judgeIdentities(
  identities: Iterable<IdentityRow>,
  endpoints: Iterable<EndpointObjectRow>,
  options: { range: { min: number; max: number }; timeout: number; now: number },
): IdentityVerdict {
  const used = new Set<number>();
  for (const each of endpoints) used.add(each.identity);
  const verdict = {
    mark: [] as IdentityRow[],
    unmark: [] as IdentityRow[],
    remove: [] as IdentityRow[],
    alive: 0,
  };
  for (const row of identities) {
    if (row.identity < options.range.min || row.identity > options.range.max) continue;
    const since = Date.parse(row.unusedSince);
    if (used.has(row.identity)) {
      verdict.alive++;
      if (row.unusedSince !== '') verdict.unmark.push(row);
    } else if (Number.isNaN(since)) verdict.mark.push(row);
    else if (options.now - since >= options.timeout) verdict.remove.push(row);
  }
  return verdict;
}

/** A live pod, as far as its endpoint's object is concerned. */
export interface LivePod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** CiliumEndpoints whose pod is gone, ended, or was replaced by one of the same name. */
export function orphanedEndpoints(
  endpoints: Iterable<EndpointObjectRow>,
  podOf: (key: string) => LivePod | undefined,
): EndpointObjectRow[] {
  return [...endpoints].filter(row => {
    const pod = podOf(`${row.namespace}/${row.name}`);
    return !pod || (row.podUid !== '' && row.podUid !== pod.uid);
  });
}

/**
 * Remembers what was left over in the round before: only what is so twice is really so, because the watches
 * of two kinds of objects do not move in step.
 */
export class TwiceSeen {
  #before = new Set<string>();

  /** Those of `found` that the call before had as well, by UID. */
  confirm<Row extends { readonly uid: string }>(found: readonly Row[]): Row[] {
    const confirmed = found.filter(each => this.#before.has(each.uid));
    this.#before = new Set(found.map(each => each.uid));
    return confirmed;
  }
}
