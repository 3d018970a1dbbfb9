import type { IdentityRow } from '../api/crds/cilium-identity.ts';
import type { Labels } from '../api/labels.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';
import type { IdentityAllocator } from './allocator.ts';
import type { PodLabelsRow } from './pod.ts';

/** A pod and the security identity its labels have now. */
export interface PodIdentityRow {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly labels: Labels;
  readonly text: string;
  readonly identity: number;
}

export interface PodIdentityOptions {
  readonly labels: ReadonlyTable<PodLabelsRow>;
  readonly identities: ReadonlyTable<IdentityRow>;
  readonly allocator: IdentityAllocator;
  readonly signal: AbortSignal;
  /** No identity could be had for a pod; tried again in `delay` ms. */
  readonly onError?: (pod: string, error: Error, delay: number) => void;
}

/** Keyed `namespace/name`; indexes `text` and `identity`. Hand it to `followPodIdentities`, its one writer. */
export function podIdentitiesTable(): Table<PodIdentityRow> {
  return new Table<PodIdentityRow>({
    name: 'pod identities',
    keyOf: row => `${row.namespace}/${row.name}`,
    indexes: { text: row => [row.text], identity: row => [String(row.identity)] },
    equal: (a, b) => a.uid === b.uid && a.text === b.text && a.identity === b.identity,
  });
}

/**
 * Gives every pod of `labels` its identity, and a new one when its labels change; the old one stays in force
 * until the new one is known. A pod whose identity cannot be had yet has no row. The table is synced when
 * every pod of the first complete state has been tried.
 */
export function followPodIdentities(table: Table<PodIdentityRow>, options: PodIdentityOptions): void {
  const { labels, identities, allocator, signal } = options;
  const attempts = new Map<string, number>();
  const retries = new Map<string, NodeJS.Timeout>();

  const assign = async (key: string): Promise<void> => {
    clearTimeout(retries.get(key));
    retries.delete(key);
    const wanted = labels.get(key);
    if (!wanted) {
      attempts.delete(key);
      table.delete(key);
      return;
    }
    const known = allocator.known(wanted.text);
    if (known !== undefined && identities.synced) {
      table.upsert({ ...wanted, identity: known });
      return;
    }
    try {
      const identity = await allocator.identityOf(wanted.labels);
      attempts.delete(key);
      const present = labels.get(key);
      if (present?.text === wanted.text && present.uid === wanted.uid)
        table.upsert({ ...present, identity: allocator.known(present.text) ?? identity });
    } catch (problem) {
      if (retries.has(key) || signal.aborted) return;
      const attempt = (attempts.get(key) ?? 0) + 1;
      attempts.set(key, attempt);
      const delay = Math.min(5000, 50 * 2 ** Math.min(attempt, 10)) * (0.5 + Math.random() / 2);
      options.onError?.(key, problem instanceof Error ? problem : new Error(String(problem)), delay);
      retries.set(key, setTimeout(() => void assign(key), delay).unref());
    }
  };

  const stop = [
    labels.subscribe(({ key }) => void assign(key)),
    // Equal labels under a lower number, or the number in force gone: the pods concerned move.
    identities.subscribe(({ before, after }) => {
      for (const text of new Set([before?.text, after?.text])) {
        if (text === undefined) continue;
        for (const { namespace, name, identity } of [...table.by('text', text)])
          if (allocator.known(text) !== identity && allocator.known(text) !== undefined)
            void assign(`${namespace}/${name}`);
      }
    }),
  ];
  signal.addEventListener('abort', () => {
    for (const each of stop) each();
    for (const each of retries.values()) clearTimeout(each);
  });
  const first = [...labels.keys()].map(assign);
  void labels
    .whenSynced()
    .then(() => identities.whenSynced())
    .then(() => Promise.all([...first, ...[...labels.keys()].map(assign)]))
    .then(() => table.markSynced());
}
